"""`mambalob evaluate`: tables, JSON and pictures of a run and of its artifact."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mambalob import main


def evaluate(
    data_folders: dict[str, Path], *options: str | Path, names: tuple[str, ...] = ("walk", "walk-too")
) -> Result:
    """The command on the data sets of these names."""
    data = [option for name in names for option in ("--data", str(data_folders[name]))]
    return CliRunner().invoke(main, ["evaluate", *data, *map(str, options)])


def test_a_run_is_scored_as_json_with_pictures(
    trained_run: Path, data_folders: dict[str, Path], tmp_path: Path
) -> None:
    result = evaluate(
        data_folders, "--run", trained_run, "--stream", "walk", "--json", "--plots", tmp_path / "plots"
    )
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["model"], report["part"], report["context"]) == ("tiny", "test", "stream")
    assert report["ece_bins"] == 15
    assert report["seeds"] == [0, 1]
    assert report["logistic_fitted_on"] == ["walk", "walk-too"]
    assert [horizon["horizon"] for horizon in report["streams"][0]["horizons"]] == [10, 50, 100]
    assert sorted(path.suffix for path in (tmp_path / "plots").iterdir()) == [".png", ".png"]


def test_a_table_says_how_it_was_scored(trained_run: Path, data_folders: dict[str, Path]) -> None:
    result = evaluate(data_folders, "--run", trained_run, "--part", "validation", "--stream", "walk")
    assert result.exit_code == 0, result.stderr
    assert "walk, k = 10" in result.stdout
    assert "microprice rule" in result.stdout
    assert "15 bins of equal width" in result.stdout


def test_markdown_is_for_a_card(trained_run: Path, data_folders: dict[str, Path]) -> None:
    result = evaluate(data_folders, "--run", trained_run, "--markdown", "--stream", "walk")
    assert "| method | log loss | uncalibrated | direction AUC | ECE |" in result.stdout
    assert "| mean of 2 seeds | " in result.stdout


def test_saved_scores_reach_the_artifacts_manifest_and_its_own_are_the_same(
    trained_run: Path, data_folders: dict[str, Path], tmp_path: Path
) -> None:
    assert evaluate(data_folders, "--run", trained_run, "--save", "--stream", "walk").exit_code == 0
    options = ["--seed", "0", "--data", str(data_folders["walk"]), "--out", str(tmp_path / "models")]
    exported = CliRunner().invoke(main, ["export", "--run", str(trained_run), *options])
    (trained_run / "evaluation.json").unlink()
    assert exported.exit_code == 0, exported.stderr
    manifest = json.loads((tmp_path / "models" / "tiny" / "manifest.json").read_text())
    saved = manifest["metrics"]["streams"][0]["horizons"][0]["methods"]
    result = evaluate(data_folders, "--model", tmp_path / "models" / "tiny", "--stream", "walk", "--json")
    assert result.exit_code == 0, result.stderr
    served = json.loads(result.stdout)["streams"][0]["horizons"][0]["methods"]
    for baseline, before in zip(served[:4], saved[:4], strict=True):
        assert baseline | {"reliability": []} == before | {"reliability": []}
    assert served[4]["method"] == "tiny (seed 0)"
    for score in ("log_loss", "direction_auc", "expected_calibration_error", "macro_f1"):
        assert served[4][score] == pytest.approx(saved[4][score], abs=1e-4)


def test_data_that_no_model_has_seen_is_scored_too(trained_run: Path, data_folders: dict[str, Path]) -> None:
    result = evaluate(data_folders, "--run", trained_run, "--json", names=("later",))
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["logistic_fitted_on"] == ["later"]
    assert [stream["stream"] for stream in report["streams"]] == ["later"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ([], 2, "one of --run and --model is needed"),
        (["--model", "none-such"], 1, "model: 'none-such' came"),
        (["--run", "none-such"], 1, "none-such/run.json"),
        (["--model", "x", "--save"], 2, "--save needs --run"),
    ],
)
def test_a_wrong_option_is_clear(
    data_folders: dict[str, Path], options: list[str], code: int, message: str
) -> None:
    result = evaluate(data_folders, *options)
    assert result.exit_code == code
    assert message in result.stderr


def test_an_unknown_stream_is_one_line(trained_run: Path, data_folders: dict[str, Path]) -> None:
    result = evaluate(data_folders, "--run", trained_run, "--stream", "other")
    assert result.exit_code == 1
    assert "stream: 'other' came, one of walk, walk-too is allowed" in result.stderr
