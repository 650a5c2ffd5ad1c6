"""Which files are captures, in which order, and what a new one is called."""

from pathlib import Path

import pytest

from lob.captures.layout import capture_files, recording_path, stream_directory
from lob.errors import CaptureError, InputError


def test_a_stream_has_a_folder_of_its_own() -> None:
    assert stream_directory(Path("root"), "bybit", "linear", "BTCUSDT", "orderbook.50") == Path(
        "root/bybit/linear/BTCUSDT/orderbook.50"
    )


def test_names_sort_by_time_and_are_never_taken_twice(tmp_path) -> None:
    moments = [1_000_000_000, 1_763_702_800_123_456_000, 1_763_702_800_123_457_000, 1_763_702_801_000_000_999]
    paths = [recording_path(tmp_path, moment) for moment in moments]
    assert paths == sorted(paths)
    assert paths[1].name == "2025-11-21T05-26-40.123456Z.jsonl.zst"
    paths[1].touch()
    again = recording_path(tmp_path, moments[1])
    assert again.name == "2025-11-21T05-26-40.123457Z.jsonl.zst"
    again.with_name(again.name + ".part").touch()
    assert recording_path(tmp_path, moments[1]).name == "2025-11-21T05-26-40.123458Z.jsonl.zst"


def test_a_clock_set_back_does_not_put_a_file_before_an_older_one(tmp_path) -> None:
    for name in ("2025-12-31T23-59-59.999999Z.jsonl.zst", "9999-99-99T00-00-00.000000Z.zst", "a\nb.zst"):
        (tmp_path / name).touch()
    assert recording_path(tmp_path, 10**9).name == "2026-01-01T00-00-00.000000Z.jsonl.zst"
    (tmp_path / "9999-12-31T23-59-59.999999Z.jsonl.zst").touch()
    with pytest.raises(CaptureError, match="no name comes after its newest file's"):
        recording_path(tmp_path, 10**9)


def test_a_folder_stands_for_its_captures_by_name(tmp_path) -> None:
    names = [
        "b/2.jsonl.zst",
        "b/1.jsonl.zst",
        "a/2024-12-02_X_ob500.data.zip",
        "a/2024-12-01_X_ob500.data.zip",
    ]
    others = ["b/1.jsonl.zst.index.json", "b/.3.jsonl.zst", "b/4.jsonl.zst.damaged", "README.md", ".git/1.gz"]
    for name in (*names, *others, "b/0.jsonl.zst.part"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    expected = [tmp_path / name for name in (names[3], names[2], names[1], names[0])]
    assert capture_files([tmp_path]) == expected
    assert capture_files([tmp_path / "b", tmp_path / "README.md"]) == [*expected[2:], tmp_path / "README.md"]
    assert capture_files([tmp_path], parts=True)[2] == tmp_path / "b/0.jsonl.zst.part"


def test_a_folder_without_captures_and_a_path_that_is_not_there(tmp_path) -> None:
    with pytest.raises(InputError, match="no capture came to light below it"):
        capture_files([tmp_path])
    with pytest.raises(CaptureError, match="no such file; expected a capture or a folder of captures"):
        capture_files([tmp_path / "missing"])
