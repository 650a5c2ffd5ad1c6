"""`mambalob doctor` on this machine, and on one made sick in known ways."""

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from numba.core import config

from inference import doctor
from inference.artifact import write_artifact
from inference.model_store import ModelStore
from inference.registry import MODELS_VARIABLE
from mambalob import main
from tests.versions import as_version


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MODELS_VARIABLE, raising=False)


def checks(*arguments: object, code: int = 0) -> dict[str, dict[str, Any]]:
    result = CliRunner().invoke(main, ["doctor", "--json", *map(str, arguments)])
    report = json.loads(result.stdout)
    assert result.exit_code == code, report
    assert report["ok"] == (code == 0)
    return {check["name"]: check for check in report["checks"]}


needs_compilation = pytest.mark.skipif(
    config.DISABLE_JIT, reason="a problem of its own: NUMBA_DISABLE_JIT is set"
)


@needs_compilation
class TestHealthy:
    def test_tells_what_the_machine_offers(self, models_dir: Path) -> None:
        found = checks("--models-dir", models_dir)
        assert found["packages"]["facts"]["numba"]
        assert found["processor"]["facts"]["cores_allowed"] >= 1
        assert found["processor"]["facts"]["model"]
        assert 0 < found["clock"]["facts"]["smallest_step_ns"] <= 1000
        assert "CPUExecutionProvider" in found["onnxruntime"]["facts"]["providers"]
        assert found["kernel_cache"]["facts"]["folders"]
        assert found["model tiny"]["facts"]["engine"] == "fused"
        assert found["model tiny-window"]["facts"]["engine"] == "ort-window"
        assert not any(check["problem"] or check["hint"] for check in found.values())

    def test_compiles_and_runs_everything_on_request(self, models_dir: Path) -> None:
        facts = checks("--models-dir", models_dir, "--compile")["compilation"]["facts"]
        assert facts["kernels"] > 5
        assert facts["predictions"]["tiny"] > facts["predictions"]["tiny-window"] > 100

    def test_runs_each_version_of_a_model(
        self, exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "shipped").mkdir()
        monkeypatch.setattr("inference.registry.shipped_models", lambda: tmp_path / "shipped")
        store = ModelStore(tmp_path / "own")
        for version in "12":
            manifest, graphs = as_version(exported.manifest, exported.graphs, version=version)
            write_artifact(tmp_path / version, manifest, graphs, card="")
            store.install(tmp_path / version)
        facts = checks("--models-dir", store.directory, "--compile")["compilation"]["facts"]
        assert facts["predictions"].keys() == {"tiny", "tiny@2"}

    def test_for_people(self, models_dir: Path) -> None:
        result = CliRunner().invoke(main, ["doctor", "--models-dir", str(models_dir)])
        assert result.exit_code == 0
        assert "ok model tiny: version 1, context stream, engine fused" in result.stdout
        assert result.stdout.endswith("all is well\n")


def test_a_broken_model(models_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "sick").mkdir()
    (tmp_path / "sick" / "manifest.json").write_text("{}")
    sick = checks("--models-dir", tmp_path, code=1)["model sick"]
    assert "format_version" in sick["problem"]
    assert sick["hint"]


def test_no_model_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.registry.shipped_models", lambda: tmp_path)
    assert checks(code=1)["models"]["problem"] == "no model found"


def test_a_models_directory_that_is_not_there(tmp_path: Path) -> None:
    assert "--models-dir" in checks("--models-dir", tmp_path / "absent", code=1)["models"]["problem"]


@needs_compilation
def test_a_cache_that_cannot_be_written(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_writable", lambda folder: False)
    cache = checks("--models-dir", models_dir, code=1)["kernel_cache"]
    assert "every start compiles them anew" in cache["problem"]
    assert "NUMBA_CACHE_DIR" in cache["hint"]


def test_compilation_turned_off(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "DISABLE_JIT", 1)
    assert "NUMBA_DISABLE_JIT" in checks("--models-dir", models_dir, code=1)["kernel_cache"]["problem"]


def test_a_coarse_clock(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter(range(0, 10**12, 15_625_000))
    monkeypatch.setattr("inference.doctor.time.perf_counter_ns", lambda: next(readings))
    clock = checks("--models-dir", models_dir, code=1)["clock"]
    assert "15625000 ns" in clock["problem"]


def test_the_packages_looked_for_are_those_that_the_project_names() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        here = [one for one in requirements if sys.platform != "win32" or "win32" not in one]
        return {re.split("[^a-z0-9-]", one)[0] for one in here}

    looked_for = {*doctor.PACKAGES, *doctor.SERVING_PACKAGES}
    assert looked_for == {*names(project["dependencies"]), "mambalob", "llvmlite"}  # Numba's own compiler
    assert set(doctor.TRAINING_PACKAGES) == names(project["optional-dependencies"]["train"])


def test_a_missing_package(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SERVING_PACKAGES", ("no-such-package",))
    packages = checks("--models-dir", models_dir, code=1)["packages"]
    assert packages["problem"] == "not installed: no-such-package"


def test_a_problem_for_people(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["doctor", "--models-dir", str(tmp_path / "absent")])
    assert result.exit_code == 1
    assert "!! models: " in result.stdout
    assert "   try: " in result.stdout


@pytest.mark.parametrize(("writable", "expected"), [(0o700, True), (0o500, False)])
def test_a_folder_is_tried_by_writing(tmp_path: Path, writable: int, expected: bool) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(writable)
    try:
        (folder / "probe").touch()
        allowed = True  # the superuser may write anywhere
    except PermissionError:
        allowed = False
    assert doctor._writable(folder / "not" / "yet" / "there") == (expected or allowed)
