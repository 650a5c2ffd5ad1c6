"""`mambalob build`: one folder, whole or absent."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mambalob import main
from training.dataset import Dataset, read_dataset


def run(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the command."""
    result = CliRunner().invoke(main, ["build", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_captures_become_a_data_set(spot_captures: list[Path], spot_dataset: Dataset, tmp_path: Path) -> None:
    code, output, errors = run(*spot_captures, "--out", tmp_path / "spot-btcusdt", "--json")
    assert code == 0, errors
    manifest = read_dataset(tmp_path / "spot-btcusdt").manifest
    assert json.loads(output)["rows"] == manifest.rows == spot_dataset.manifest.rows
    assert manifest.name == "spot-btcusdt"
    assert manifest.files == spot_dataset.manifest.files
    assert [line.split(":")[0] for line in errors.splitlines()] == [path.name for path in spot_captures]


def test_a_truncated_capture_is_one_line_and_nothing_half_written(
    spot_captures: list[Path], tmp_path: Path
) -> None:
    cut = tmp_path / "cut.gz"
    cut.write_bytes(spot_captures[0].read_bytes()[:150_000])
    code, output, errors = run(cut, "--out", tmp_path / "data" / "cut")
    assert code == 1
    assert output == ""
    assert len(errors.splitlines()) == 1
    assert "cut.gz: line" in errors
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("content", [b"", b"not a capture\n", b"\x1f\x8b\x08garbage"])
def test_a_file_that_is_no_capture_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    code, _, errors = run(tmp_path / "file", "--out", tmp_path / "out")
    assert code == 1
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_data_set_that_is_there_is_kept_unless_replaced(spot_captures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("keep")
    code, _, errors = run(spot_captures[0], "--out", tmp_path / "mine", "--replace")
    assert code == 1
    assert "is no data set" in errors
    assert (tmp_path / "mine" / "file").read_text() == "keep"


def test_a_capture_of_another_venue_than_named_is_refused(spot_captures: list[Path], tmp_path: Path) -> None:
    code, _, errors = run(spot_captures[0], "--out", tmp_path / "out", "--venue", "bybit")
    assert code == 1
    assert "venue: bybit came, the captures are of binance" in errors
