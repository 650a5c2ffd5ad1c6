"""The plot is a real PNG of the run's samples."""

import importlib.util
import struct
from pathlib import Path

import pytest

from bench import plot
from bench.harness import Measured
from lob.errors import InputError


@pytest.fixture(autouse=True)
def _needs_matplotlib() -> None:
    pytest.importorskip("matplotlib", reason="the training extra is not installed")


def test_png(known_run: list[Measured], tmp_path: Path) -> None:
    path = tmp_path / "stages.png"
    plot.plot_percentiles(known_run, path, "a caption")
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    assert width > 1000
    assert height > 600


def test_more_samples_are_another_picture(known_run: list[Measured], tmp_path: Path) -> None:
    plot.plot_percentiles(known_run, tmp_path / "both.png", "")
    plot.plot_percentiles(known_run[:1], tmp_path / "one.png", "")
    assert (tmp_path / "both.png").read_bytes() != (tmp_path / "one.png").read_bytes()


def test_a_path_that_cannot_be_written(known_run: list[Measured], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write the plot"):
        plot.plot_percentiles(known_run, tmp_path / "no" / "folder.png", "")


def test_a_missing_folder_is_said_before_measuring(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a directory that exists"):
        plot.require_plotting(tmp_path / "no" / "folder.png")


def test_missing_library_is_said_before_measuring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plot.require_plotting(tmp_path / "a.png")
    monkeypatch.setattr(
        plot, "find_spec", lambda name: None if name == "matplotlib" else importlib.util.find_spec(name)
    )
    with pytest.raises(InputError, match=r"'\.\[train\]'"):
        plot.require_plotting(tmp_path / "a.png")
