"""`inference.directory_swap` on a real file system, with and without the exchange call."""

import threading
from pathlib import Path

import pytest

from inference import directory_swap
from inference.directory_swap import put_directory


def directory(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "content").write_text(content)
    return path


def test_takes_a_free_name(tmp_path: Path) -> None:
    put_directory(directory(tmp_path / "new", "new"), tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


@pytest.mark.parametrize("exchange", [True, False])
def test_replaces_and_leaves_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(directory_swap, "_exchange", lambda one, other: False)
    target = directory(tmp_path / "target", "old")
    put_directory(directory(tmp_path / "new", "new"), target)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert (target / "content").read_text() == "new"


def test_puts_the_old_one_back_where_the_rename_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_swap, "_exchange", lambda one, other: False)
    target = directory(tmp_path / "target", "old")
    with pytest.raises(FileNotFoundError):
        put_directory(tmp_path / "missing", target)
    assert (target / "content").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_reader_never_finds_the_name_free(tmp_path: Path) -> None:
    target = directory(tmp_path / "target", "0")
    if not directory_swap._exchange(target, directory(tmp_path / "probe", "probe")):
        pytest.skip("this system cannot exchange two names in one call")
    misses, done = [], threading.Event()

    def watch() -> None:
        while not done.is_set():
            if not target.is_dir():
                misses.append(1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for number in range(100):
            put_directory(directory(tmp_path / "new", str(number)), target)
    finally:
        done.set()
        watcher.join()
    assert (target / "content").read_text() == "99"
    assert not misses
