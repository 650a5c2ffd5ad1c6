"""Sources give the frames a book can be kept from, again and again."""

import json
from itertools import islice
from pathlib import Path

import pytest

from bench.frame_source import FrameSource, FrameTape, capture_source, kept_in_memory, seeded_source
from lob.errors import CaptureError
from lob.row_status import RowStatus
from lob.rows import RowPath
from lob.venues import make_decoder


def statuses(source: FrameSource, count: int) -> list[RowStatus]:
    path = RowPath(make_decoder(source.venue), source.instrument)
    return [path.on_frame(frame, receive_ns) for receive_ns, frame in islice(source.passes(), count)]


def test_every_seeded_frame_is_a_row() -> None:
    source = seeded_source(3)
    assert statuses(source, 2000) == [RowStatus.SNAPSHOT] + [RowStatus.ROW] * 1999
    assert source.input_size == "depth50"
    assert "seed 3" in source.title


@pytest.mark.parametrize(("depth", "changes_a_side"), [(200, 10), (1000, 30)])
def test_every_seeded_frame_of_a_deeper_book_is_a_row(depth: int, changes_a_side: int) -> None:
    source = seeded_source(3, depth=depth, changes_a_side=changes_a_side)
    assert statuses(source, 500) == [RowStatus.SNAPSHOT] + [RowStatus.ROW] * 499
    assert source.input_size == f"depth{depth}"
    assert f"{changes_a_side} bids and {changes_a_side} asks each, depth {depth}, seed 3" in source.title


def test_frames_kept_in_memory_are_the_first_of_the_source_and_the_same_objects_each_time() -> None:
    source = kept_in_memory(seeded_source(3), 20)
    first, again = list(source.passes()), list(source.passes())
    assert first == list(islice(seeded_source(3).passes(), 20))
    assert [id(captured.frame) for captured in first] == [id(captured.frame) for captured in again]


def test_bybit_capture(data_dir: Path) -> None:
    folder = data_dir / "bybit" / "spot_btcusdt_cpp_trading_core"
    source = capture_source(folder / "orderbook50_btcusdt_1000frames_20260808.ndjson")
    assert (source.venue, source.instrument.symbol, source.input_size) == ("bybit", "BTCUSDT", "depth50")
    found = statuses(source, 5000)
    assert len(found) == 999  # the acknowledgement is left out
    assert found[0] is RowStatus.SNAPSHOT
    assert set(found[1:]) == {RowStatus.ROW, RowStatus.NO_ROW}
    assert statuses(source, 5000) == found


@pytest.mark.parametrize("name", ["spot_nexousdt_20240723.dat.gz", "cm_btcusd_perp_20240808.gz"])
def test_binance_capture_starts_with_the_snapshot_that_came_beside(
    data_dir: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.frame_source.LARGEST_CAPTURE_FRAMES", 3000)
    source = capture_source(data_dir / "binance" / name)
    assert source.venue == "binance"
    found = statuses(source, 3000)
    assert found[0] is RowStatus.SNAPSHOT
    assert set(found[1:]) <= {RowStatus.ROW, RowStatus.NO_ROW, RowStatus.IGNORED}
    assert found.count(RowStatus.ROW) > 500


def write_frames(path: Path, frames: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(frame, separators=(",", ":")) + "\n" for frame in frames))
    return path


def frame(kind: str, update_id: int, bids: list[object], symbol: str = "BTCUSDT") -> dict[str, object]:
    data = {"s": symbol, "b": bids, "a": [["100.5", "1"]], "u": update_id, "seq": update_id}
    return {"topic": f"orderbook.50.{symbol}", "type": kind, "ts": 5, "data": data, "cts": 4}


def test_other_symbols_are_left_out_and_the_grid_is_found(tmp_path: Path) -> None:
    path = write_frames(
        tmp_path / "capture.ndjson",
        [
            frame("snapshot", 1, [["99.5", "1"]]),
            frame("snapshot", 7, [["0.001", "1"]], "OTHER"),
            frame("delta", 2, [["99.25", "2"]]),
        ],
    )
    source = capture_source(path)
    assert source.instrument.symbol == "BTCUSDT"
    assert source.instrument.ticks("100.5") * 0.25 == 100.5
    assert [status for status in statuses(source, 9) if status is RowStatus.OTHER_STREAM] == []
    assert len(list(source.passes())) == 2


def test_a_capture_without_a_snapshot_is_refused(tmp_path: Path) -> None:
    path = write_frames(tmp_path / "capture.ndjson", [frame("delta", n, [["99.5", "1"]]) for n in (2, 3)])
    with pytest.raises(CaptureError, match="no snapshot of BTCUSDT's book"):
        capture_source(path)


def test_tape_never_crosses_a_pass(data_dir: Path) -> None:
    source = capture_source(data_dir / "bybit" / "linear_xrpusdt_ob500_nautilus" / "xrpusdt-ob500.data.zip")
    tape = FrameTape(source)
    lengths = [len(tape.take(20)) for _ in range(8)]
    assert lengths == [20, 20, 10, 0, 20, 20, 10, 0]
