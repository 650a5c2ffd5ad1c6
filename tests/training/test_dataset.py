"""A data set survives the disk unchanged, appears whole or not at all, and refuses what was altered."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lob.errors import InputError
from training.dataset import ARRAYS, Dataset, read_dataset, segment_bounds, write_dataset


@pytest.fixture
def written(tmp_path: Path, make_dataset: Callable[..., Dataset]) -> Path:
    """A data set on disk."""
    write_dataset(tmp_path / "walk", make_dataset(rows=50, segments=2))
    return tmp_path / "walk"


def test_what_is_read_is_what_was_written(tmp_path: Path, make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset(rows=300, segments=3)
    manifest = write_dataset(tmp_path / "runs" / "walk", dataset)
    again = read_dataset(tmp_path / "runs" / "walk")
    assert again.manifest == manifest
    assert set(manifest.arrays) == set(ARRAYS)
    for name, (kind, _) in ARRAYS.items():
        came = getattr(again, name)
        assert came.dtype == kind
        np.testing.assert_array_equal(came, getattr(dataset, name))
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["walk"]


def test_a_data_set_is_replaced_only_when_asked(written: Path, make_dataset: Callable[..., Dataset]) -> None:
    with pytest.raises(InputError, match="exists already"):
        write_dataset(written, make_dataset(rows=60))
    assert read_dataset(written).manifest.rows == 50
    write_dataset(written, make_dataset(rows=60), replace=True)
    assert read_dataset(written).manifest.rows == 60


def test_a_folder_of_something_else_is_never_replaced(
    tmp_path: Path, make_dataset: Callable[..., Dataset]
) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "work.txt").write_text("keep")
    with pytest.raises(InputError, match="is no data set"):
        write_dataset(tmp_path / "precious", make_dataset(rows=60), replace=True)
    assert (tmp_path / "precious" / "work.txt").read_text() == "keep"


def test_a_failed_write_leaves_nothing(
    tmp_path: Path, make_dataset: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space left"):
        write_dataset(tmp_path / "walk", make_dataset(rows=60))
    assert list(tmp_path.iterdir()) == []


def test_an_altered_array_is_refused(written: Path) -> None:
    rows = np.load(written / "rows.npy")
    rows[3, 4] += 1
    np.save(written / "rows.npy", rows)
    with pytest.raises(InputError, match=r"rows\.npy: the file has sha256"):
        read_dataset(written)


def test_a_truncated_array_is_refused(written: Path) -> None:
    path = written / "segments.npy"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"segments\.npy: not an array"):
        read_dataset(written)


def test_a_pickled_array_is_never_loaded(written: Path) -> None:
    np.save(written / "rows.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"rows\.npy: not an array"):
        read_dataset(written)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 9}, "format_version: 9 came"),
        ({"rows": 51}, "50, 44"),
        ({"colour": "red"}, "not a data set's manifest"),
        ({"schema": {"name": "lob44", "version": 1, "hash": "0" * 64}}, "build it again"),
        ({"schema": {"name": "lob99", "version": 1, "hash": "0" * 64}}, "unknown name 'lob99'"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    written: Path, change: dict[str, object], message: str
) -> None:
    path = written / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message):
        read_dataset(written)


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a folder that `mambalob build` wrote is needed"):
        read_dataset(tmp_path)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.data())
def test_segment_bounds_cover_the_part_and_nothing_crosses(lengths: list[int], data: st.DataObject) -> None:
    segments = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
    start = data.draw(st.integers(0, len(segments)))
    stop = data.draw(st.integers(start, len(segments)))
    bounds = segment_bounds(segments, start, stop)
    assert [row for first, past in bounds for row in range(first, past)] == list(range(start, stop))
    for first, past in bounds:
        assert len(set(segments[first:past].tolist())) == 1
    assert len(bounds) == len(set(segments[start:stop].tolist()))
