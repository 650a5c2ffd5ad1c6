"""`mambalob models`: a listing for people and for programs, and an exit code that tells a broken artifact."""

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from numba.core import config

from inference.artifact import write_artifact
from inference.registry import MODELS_VARIABLE
from mambalob import main

AUTO = "ort-step" if config.DISABLE_JIT else "fused"


@pytest.fixture
def folder(models_dir: Path, exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`tiny` with held-out metrics as `mambalob evaluate` writes them, and `tiny-window` without any."""
    monkeypatch.delenv(MODELS_VARIABLE, raising=False)
    baseline = {"method": "microprice rule", "seed": None, "log_loss": None, "macro_f1": 0.5}
    seeds = [
        {
            "method": f"tiny, seed {seed}",
            "seed": seed,
            "log_loss": loss,
            "direction_auc": 0.9,
            "macro_f1": 0.4,
        }
        for seed, loss in enumerate((0.6, 0.7))
    ]
    horizon = {"horizon": 10, "rows": 4768, "methods": [baseline, *seeds]}
    metrics = {"streams": [{"stream": "BTCUSD_PERP", "horizons": [horizon]}]}
    manifest = msgspec.structs.replace(exported.manifest, metrics=metrics)
    write_artifact(tmp_path / "tiny", manifest, exported.graphs, card="")
    shutil.copytree(models_dir / "tiny-window", tmp_path / "tiny-window")
    return tmp_path


def entries(folder: Path, code: int = 0) -> dict[str, dict[str, Any]]:
    result = CliRunner().invoke(main, ["models", "--models-dir", str(folder), "--json"])
    assert result.exit_code == code, result.stderr
    return {entry["name"]: entry for entry in json.loads(result.stdout)["models"]}


def test_says_what_a_caller_needs_to_choose(folder: Path) -> None:
    tiny = entries(folder)["tiny"]
    assert tiny["version"] == "1"
    assert (tiny["family"], tiny["block"], tiny["size"]) == ("mamba-lob", "ssd", "tiny")
    assert (tiny["context"], tiny["engine"]) == ("stream", AUTO)
    assert (tiny["schema"], tiny["sampling"], tiny["horizons"]) == ("lob44", "top_changed", [10, 50, 100])
    assert [(graph["graph"], graph["precision"]) for graph in tiny["graphs"]] == [
        ("step", "float32"),
        ("window", "float32"),
    ]
    assert tiny["precisions"]["fused"] == ["float32", "bfloat16", "int16", "int8"]
    assert tiny["precisions"]["ort-step"] == tiny["precisions"]["ort-window"] == ["float32"]
    assert tiny["directory"] == str(folder / "tiny")
    assert entries(folder)["tiny-window"]["engine"] == "ort-window"


def test_held_out_scores_are_the_mean_over_seeds(folder: Path) -> None:
    assert entries(folder)["tiny"]["held_out"] == [
        {
            "stream": "BTCUSD_PERP",
            "horizon": 10,
            "rows": 4768,
            "seeds": 2,
            "log_loss": 0.65,
            "direction_auc": 0.9,
            "macro_f1": 0.4,
        }
    ]
    assert entries(folder)["tiny-window"]["held_out"] == []


def test_a_broken_artifact_is_named_and_the_others_are_still_listed(folder: Path) -> None:
    (folder / "tiny-window" / "window.onnx").write_bytes(b"garbage")
    listed = entries(folder, code=1)
    assert "sha256" in listed["tiny-window"]["error"]
    assert "error" not in listed["tiny"]


def test_for_people(folder: Path) -> None:
    result = CliRunner().invoke(main, ["models", "--models-dir", str(folder)])
    assert result.exit_code == 0
    for part in (
        "tiny 1: mamba-lob ssd tiny",
        f"context stream ({AUTO})",
        "held out: BTCUSD_PERP at 10 rows: log loss 0.650, direction AUC 0.900, macro F1 0.400",
    ):
        assert part in result.stdout


def test_a_missing_directory_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["models", "--models-dir", str(tmp_path / "absent")])
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1


def run(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(main, ["models", *arguments])
    assert result.exit_code == code, result.output
    return result


def test_versions_are_installed_chosen_rolled_back_and_removed(
    folder: Path, sources: dict[str, Path], tmp_path: Path
) -> None:
    mine = ("--models-dir", str(tmp_path / "mine"))
    said = json.loads(run("install", str(folder / "tiny"), *mine, "--json").stdout)
    assert (said["name"], said["version"], said["active"]) == ("tiny", "1", True)
    assert "tiny@2 is in" in run("install", str(sources["2"]), *mine).stdout
    listed = json.loads(run(*mine, "--json").stdout)["models"]
    assert {"tiny", "tiny@2"} <= {entry["id"] for entry in listed}
    headings = [line.partition(":")[0] for line in run(*mine).stdout.splitlines() if "parameters" in line]
    assert {"tiny 1", "tiny@2"} <= set(headings)
    assert run("activate", "tiny@2", *mine).stdout == "tiny stands for version 2, before that for 1\n"
    assert run("rollback", "tiny", *mine).stdout == "tiny stands for version 1, before that for 2\n"
    assert "tiny@2: mamba-lob" in run("verify", "tiny@2", *mine).stdout
    assert run("remove", "tiny@2", *mine).stdout == "tiny@2 is removed\n"
    assert "'tiny@2' came" in run("verify", "tiny@2", *mine, code=1).stdout


def test_changes_need_a_directory_and_a_version(folder: Path) -> None:
    assert "a directory is needed" in run("rollback", "tiny", code=1).stderr
    refused = run("activate", "tiny", "--models-dir", str(folder), code=1).stderr
    assert "NAME@VERSION is allowed" in refused
