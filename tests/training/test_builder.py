"""Built rows equal those the row path gives frame by frame; a damaged capture is an error."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from lob.captures import open_capture
from lob.errors import CaptureError, InputError
from lob.instrument import Instrument
from lob.row_status import RowStatus
from lob.rows import RowPath
from lob.venues import make_decoder
from training.builder import BuildConfig, build_dataset
from training.dataset import Dataset


def frame(update_id: int, kind: str, bids: list[list[str]], asks: list[list[str]]) -> str:
    """One frame of Bybit's public stream."""
    data = {"s": "TESTUSDT", "b": bids, "a": asks, "u": update_id, "seq": update_id}
    stamps = {"ts": 1_700_000_000_100 + update_id, "cts": 1_700_000_000_000 + update_id}
    return json.dumps({"topic": "orderbook.50.TESTUSDT", "type": kind, "data": data} | stamps)


@pytest.fixture
def gapped(tmp_path: Path) -> Path:
    """A capture with a lost frame, and so two segments: rows 0, 1 and 2, 3."""
    book = [["99.9", "5"]], [["100.1", "4"]]
    lines = [
        frame(10, "snapshot", *book),
        frame(11, "delta", [["99.9", "7"]], []),
        frame(13, "delta", [["99.9", "8"]], []),  # 12 is lost
        frame(14, "delta", [["99.9", "9"]], []),
        frame(20, "snapshot", *book),
        frame(21, "delta", [], [["100.0", "2"]]),
    ]
    path = tmp_path / "gapped.ndjson"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_rows_are_those_of_the_row_path(spot_captures: list[Path], spot_dataset: Dataset) -> None:
    path = RowPath(make_decoder("binance"), Instrument(symbol="BTCUSDT", tick_size="0.01"))
    rows, mids = [], []
    for receive_ns, content in open_capture(spot_captures[0]):
        if path.on_frame(content, receive_ns) in {RowStatus.ROW, RowStatus.SNAPSHOT}:
            rows.append(path.window.latest().copy())
            mids.append(path.mid)
    built = spot_dataset.manifest.files[0].rows
    assert built == len(rows) > 1000
    np.testing.assert_array_equal(spot_dataset.rows[:built], np.stack(rows))
    np.testing.assert_array_equal(spot_dataset.mid_half_ticks[:built] / 200, mids)


def test_a_stream_of_two_files_is_one_segment(spot_captures: list[Path], spot_dataset: Dataset) -> None:
    manifest = spot_dataset.manifest
    assert (manifest.symbol, manifest.tick_size, manifest.venue) == ("BTCUSDT", "0.01", "binance")
    assert manifest.segments == 1
    assert [file.name for file in manifest.files] == [path.name for path in spot_captures]
    assert sum(file.rows for file in manifest.files) == manifest.rows == len(spot_dataset.rows)
    assert (np.diff(spot_dataset.receive_ns) >= 0).all()
    assert manifest.files[0].first_ns < manifest.files[0].last_ns <= manifest.files[1].first_ns


def test_a_gap_and_a_new_snapshot_start_a_new_segment(gapped: Path) -> None:
    dataset = build_dataset([gapped], BuildConfig(name="gapped", tick_size="0.1"))
    assert dataset.segments.tolist() == [0, 0, 1, 1]
    assert dataset.mid_half_ticks.tolist() == [2000, 2000, 2000, 1999]
    assert dataset.exchange_ms.tolist() == [1_700_000_000_000 + u for u in (10, 11, 20, 21)]
    assert dataset.manifest.segments == 2
    assert dataset.manifest.frames["gap"] == 1
    assert dataset.manifest.frames["waiting"] == 1


def test_the_tick_size_is_inferred_from_the_prices(gapped: Path) -> None:
    assert build_dataset([gapped], BuildConfig(name="gapped")).manifest.tick_size == "0.1"


def test_every_message_samples_at_least_as_often(spot_captures: list[Path], spot_dataset: Dataset) -> None:
    every = build_dataset(spot_captures[:1], BuildConfig(name="every", sampling="every_message"))
    assert every.manifest.rows > spot_dataset.manifest.files[0].rows


def test_a_truncated_capture_is_an_error_that_names_it(tmp_path: Path, spot_captures: list[Path]) -> None:
    cut = tmp_path / "cut.gz"
    cut.write_bytes(spot_captures[0].read_bytes()[:200_000])
    with pytest.raises(CaptureError, match=r"cut\.gz: line \d+"):
        build_dataset([cut], BuildConfig(name="cut"))


def test_a_capture_without_a_snapshot_gives_no_row(tmp_path: Path, spot_captures: list[Path]) -> None:
    late = tmp_path / "late.gz"
    with gzip.open(spot_captures[1], "rb") as source:
        late.write_bytes(gzip.compress(b"".join(source.readlines()[:200])))
    with pytest.raises(InputError, match=r"no row of BTCUSDT came out of 200 frames .*waiting"):
        build_dataset([late], BuildConfig(name="late"))


def test_an_unknown_sampling_is_refused(gapped: Path) -> None:
    with pytest.raises(InputError, match="sampling"):
        build_dataset([gapped], BuildConfig(name="gapped", sampling="sometimes"))


def test_a_symbol_the_capture_does_not_hold_is_refused(gapped: Path) -> None:
    with pytest.raises(InputError, match="no price of OTHERUSDT"):
        build_dataset([gapped], BuildConfig(name="gapped", symbol="OTHERUSDT"))
