"""`mambalob replay` on real captures, held against what the exchanges document."""

import gzip
import json
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from numba.core import config

from inference.artifact import Artifact
from inference.pipeline import Pipeline
from inference.prediction import encode_prediction
from lob.captures import open_capture
from lob.instrument import Instrument
from lob.row_status import RowStatus
from lob.rows import RowPath
from lob.venues import make_decoder
from mambalob import main

BYBIT_SPOT = "bybit/spot_btcusdt_cpp_trading_core/orderbook50_btcusdt_1000frames_20260808.ndjson"
BYBIT_ARCHIVE = "bybit/linear_xrpusdt_ob500_nautilus/xrpusdt-ob500.data.zip"
SPOT_BTC = ("binance/spot_btcusdt_20240808.gz", "binance/spot_btcusdt_20240809.gz")

Levels = list[list[float]]


def replay(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["replay", *map(str, arguments)])
    assert result.exit_code == code, result.stderr
    assert "Traceback" not in result.stderr
    return result


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def dictionary_books(frames: Iterator[bytes]) -> Iterator[tuple[int, int, Levels, Levels]]:
    """Update number, matching-engine time and the best ten levels after every Bybit book message."""
    bids: dict[float, float] = {}
    asks: dict[float, float] = {}
    for frame in frames:
        message = json.loads(frame)
        if not message.get("topic", "").startswith("orderbook."):
            continue
        data = message["data"]
        if message["type"] == "snapshot":
            bids.clear()
            asks.clear()
        for side, changes in ((bids, data["b"]), (asks, data["a"])):
            for price, size in changes:
                if float(size):
                    side[float(price)] = float(size)
                else:
                    side.pop(float(price), None)
        yield (
            data["u"],
            message.get("cts", message["ts"]),
            [list(level) for level in sorted(bids.items(), reverse=True)[:10]],
            [list(level) for level in sorted(asks.items())[:10]],
        )


def bybit_frames(path: Path) -> Iterator[bytes]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            yield from archive.read(archive.namelist()[0]).splitlines()
    else:
        yield from path.read_bytes().splitlines()


@pytest.mark.parametrize(
    ("capture", "symbol", "tick", "messages"),
    [(BYBIT_SPOT, "BTCUSDT", "0.1", 999), (BYBIT_ARCHIVE, "XRPUSDT", "0.0001", 50)],
)
def test_book_equals_a_dictionary_book_message_by_message(
    data_dir: Path, capture: str, symbol: str, tick: str, messages: int
) -> None:
    result = replay(data_dir / capture, "--emit", "book")
    came = lines(result)
    expected = list(dictionary_books(bybit_frames(data_dir / capture)))
    assert len(came) == len(expected) == messages
    for line, (update_id, exchange_ms, bids, asks) in zip(came, expected, strict=True):
        assert line == {
            "symbol": symbol,
            "update_id": update_id,
            "exchange_ms": exchange_ms,
            "bids": bids,
            "asks": asks,
        }
    assert f"tick size {tick}, inferred from" in result.stderr


def test_files_continue_one_another_and_agree_with_the_best_prices_of_the_venue(data_dir: Path) -> None:
    paths = [data_dir / name for name in SPOT_BTC]
    best: dict[int, tuple[float, ...]] = {}
    for path in paths:
        for line in gzip.decompress(path.read_bytes()).splitlines():
            message = json.loads(line.split(b" ", 1)[1])
            if message.get("stream", "").endswith("@bookTicker"):
                data = message["data"]
                best[data["u"]] = tuple(float(data[key]) for key in "bBaA")
    books = lines(replay(*paths, "--emit", "book", "--venue", "binance"))
    assert len(books) > 6_000
    ids = [book["update_id"] for book in books]
    assert ids == sorted(ids)
    matched = 0
    for book in books:
        if book["update_id"] in best:
            matched += 1
            assert (*book["bids"][0], *book["asks"][0]) == best[book["update_id"]]
    assert matched > 1_000


def test_features_are_the_rows_of_the_serving_path(data_dir: Path) -> None:
    came = lines(replay(data_dir / BYBIT_SPOT, "--emit", "features", "--tick-size", "0.10"))
    rows = RowPath(
        make_decoder("bybit"), Instrument(symbol="BTCUSDT", tick_size="0.1"), sampling="every_message"
    )
    expected = []
    for receive_ns, frame in open_capture(data_dir / BYBIT_SPOT):
        if rows.on_frame(frame, receive_ns) in {RowStatus.ROW, RowStatus.SNAPSHOT}:
            expected.append(
                {
                    "symbol": "BTCUSDT",
                    "update_id": rows.update_id,
                    "exchange_ms": rows.exchange_ms,
                    "values": rows.window.latest().tolist(),
                }
            )
    assert came == expected
    assert len(came) == 999
    assert len(came[0]["values"]) == 44


def test_features_of_the_first_snapshot_are_right_by_hand(data_dir: Path) -> None:
    _, _, bids, asks = next(dictionary_books(bybit_frames(data_dir / BYBIT_SPOT)))
    values = lines(replay(data_dir / BYBIT_SPOT, "--emit", "features"))[0]["values"]
    mid = (bids[0][0] + asks[0][0]) / 2
    bid_size, ask_size = bids[0][1], asks[0][1]
    for level in range(10):
        assert values[4 * level] == pytest.approx((mid - bids[level][0]) / 0.1, abs=1e-4)
        assert values[4 * level + 2] == pytest.approx((asks[level][0] - mid) / 0.1, abs=1e-4)
    microprice = (bids[0][0] * ask_size + asks[0][0] * bid_size) / (bid_size + ask_size)
    assert values[40] == pytest.approx((microprice - mid) / 0.1, abs=1e-4)
    assert values[41] == pytest.approx((asks[0][0] - bids[0][0]) / 0.1, abs=1e-4)
    assert values[42] == pytest.approx((bid_size - ask_size) / (bid_size + ask_size), abs=1e-6)
    assert values[43] == 0


def test_predictions_are_those_of_the_pipeline(data_dir: Path, models_dir: Path, artifact: Artifact) -> None:
    result = replay(
        data_dir / BYBIT_SPOT, "--emit", "predictions", "--model", "tiny", "--models-dir", models_dir
    )
    pipeline = Pipeline.create(artifact, Instrument(symbol="BTCUSDT", tick_size="0.1"))
    pipeline.on_connected()
    predictions = (pipeline.on_frame(frame, ns) for ns, frame in open_capture(data_dir / BYBIT_SPOT))
    expected = [json.loads(encode_prediction(one)) for one in predictions if one is not None]
    came = lines(result)
    assert len(came) == len(expected) > 500
    for line, wanted in zip(came, expected, strict=True):
        assert line["emit_ns"] > line["receive_ns"]
        assert line["latency_us"] == (line["emit_ns"] - line["receive_ns"]) / 1000
        assert {**line, "emit_ns": 0, "latency_us": 0.0} == wanted
    assert "on_frame p50" in result.stderr


def test_engines_agree_and_name_themselves(data_dir: Path, models_dir: Path) -> None:
    by_engine = {
        engine: lines(
            replay(
                data_dir / BYBIT_ARCHIVE,
                "--emit",
                "predictions",
                "--model",
                models_dir / "tiny-window",
                "--engine",
                engine,
            )
        )
        for engine in ("auto", "fused", "ort-step", "ort-window")
    }
    assert {line["engine"] for line in by_engine["auto"]} == {"ort-window"}
    assert {line["engine"] for line in by_engine["ort-step"]} == {"ort-step"}
    assert len(by_engine["ort-step"]) > len(by_engine["ort-window"]) > 0  # L rows to warm up against 5
    first = by_engine["ort-window"][0]
    for engine in ("fused", "ort-step"):
        step = next(line for line in by_engine[engine] if line["update_id"] == first["update_id"])
        for came, wanted in zip(step["horizons"], first["horizons"], strict=True):
            assert came["probabilities"] == pytest.approx(wanted["probabilities"], abs=1e-5)


def test_a_models_sampling_is_taken_and_may_not_be_changed(data_dir: Path, models_dir: Path) -> None:
    model = ("--model", models_dir / "tiny")
    every = lines(replay(data_dir / BYBIT_SPOT, "--emit", "book"))
    changed = lines(replay(data_dir / BYBIT_SPOT, "--emit", "book", "--sampling", "top_changed"))
    of_model = lines(replay(data_dir / BYBIT_SPOT, "--emit", "book", *model))
    assert of_model == changed
    assert len(changed) < len(every)
    for before, after in pairwise(changed):
        assert (before["bids"], before["asks"]) != (after["bids"], after["asks"])
    arguments = ("--emit", "features", *model, "--sampling", "every_message")
    error = replay(data_dir / BYBIT_SPOT, *arguments, code=1).stderr
    assert "sampling: 'every_message' came, model tiny allows 'top_changed'" in error


def test_the_summary_as_json(data_dir: Path, models_dir: Path) -> None:
    result = replay(
        data_dir / BYBIT_SPOT,
        *("--emit", "predictions", "--model", models_dir / "tiny", "--tick-size", "0.1", "--json"),
    )
    summary = json.loads(result.stderr)
    assert summary["frames"] == 1000
    assert summary["lines"] == len(lines(result)) == summary["counters"]["predictions"]
    assert summary["tick_origin"] == "given"
    assert summary["state"] == {"state": "live", "reason": ""}
    assert summary["engine"]["engine"] == ("ort-step" if config.DISABLE_JIT else "fused")
    assert 0 < summary["on_frame_us"]["p50"] <= summary["on_frame_us"]["p99"]


class TestDamage:
    @pytest.fixture
    def cut(self, data_dir: Path, tmp_path: Path) -> Path:
        """The Bybit capture, compressed and cut in the middle."""
        content = gzip.compress((data_dir / BYBIT_SPOT).read_bytes())
        path = tmp_path / "cut.ndjson.gz"
        path.write_bytes(content[: len(content) // 2])
        return path

    def test_what_came_before_is_written_and_the_error_is_clear(self, data_dir: Path, cut: Path) -> None:
        result = replay(cut, "--emit", "book", "--symbol", "BTCUSDT", "--tick-size", "0.1", code=1)
        whole = lines(replay(data_dir / BYBIT_SPOT, "--emit", "book"))
        came = lines(result)
        assert 100 < len(came) < len(whole)
        assert came == whole[: len(came)]
        assert f"{cut}: line {len(came) + 2}: " in result.stderr
        assert f"{len(came):,} lines" in result.stderr

    def test_a_file_is_not_replaced_by_half_a_replay(self, cut: Path, tmp_path: Path) -> None:
        out = tmp_path / "book.jsonl"
        out.write_text("from before")
        replay(cut, "--emit", "book", "--tick-size", "0.1", "--out", out, code=1)
        assert out.read_text() == "from before"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["book.jsonl", "cut.ndjson.gz"]

    def test_a_gap_ends_predictions_and_is_counted(
        self, data_dir: Path, models_dir: Path, tmp_path: Path
    ) -> None:
        frames = (data_dir / BYBIT_SPOT).read_bytes().splitlines()
        path = tmp_path / "gap.ndjson"
        path.write_bytes(b"\n".join([*frames[:300], *frames[301:]]))
        result = replay(path, "--emit", "predictions", "--model", models_dir / "tiny")
        last = json.loads(frames[299])["data"]["u"]
        assert {line["update_id"] <= last for line in lines(result)} == {True}
        assert "1 gap" in result.stderr
        assert "ended stale: gap in the book's sequence" in result.stderr

    def test_a_wrong_tick_size_gives_no_doubtful_line(self, data_dir: Path) -> None:
        result = replay(data_dir / BYBIT_SPOT, "--emit", "book", "--tick-size", "1")
        assert result.stdout == ""
        assert "1 malformed" in result.stderr


class TestRefusals:
    def test_no_such_file(self, tmp_path: Path) -> None:
        assert "no such file" in replay(tmp_path / "absent", "--emit", "book", code=1).stderr

    def test_what_is_no_capture(self, tmp_path: Path) -> None:
        (tmp_path / "poem").write_text("Shall I compare thee\n")
        assert "poem: line 1" in replay(tmp_path / "poem", "--emit", "book", code=1).stderr

    def test_predictions_without_a_model(self, data_dir: Path) -> None:
        assert "model: none given" in replay(data_dir / BYBIT_SPOT, "--emit", "predictions", code=1).stderr

    def test_an_unknown_model(self, data_dir: Path, models_dir: Path) -> None:
        arguments = ("--emit", "predictions", "--model", "huge", "--models-dir", models_dir)
        error = replay(data_dir / BYBIT_SPOT, *arguments, code=1).stderr
        assert "'huge' came" in error
        assert "tiny, tiny-window" in error

    def test_an_unknown_engine(self, data_dir: Path, models_dir: Path) -> None:
        arguments = ("--emit", "predictions", "--model", models_dir / "tiny", "--engine", "warp")
        assert "engine: 'warp' came" in replay(data_dir / BYBIT_SPOT, *arguments, code=1).stderr

    def test_another_venue(self, data_dir: Path) -> None:
        error = replay(data_dir / BYBIT_SPOT, "--emit", "book", "--venue", "binance", code=1).stderr
        assert "venue: 'binance' came, the capture is of 'bybit'" in error

    def test_the_capture_itself_as_output(self, data_dir: Path, tmp_path: Path) -> None:
        path = tmp_path / "capture.ndjson"
        content = (data_dir / BYBIT_SPOT).read_bytes()
        path.write_bytes(content)
        assert "one of the captures" in replay(path, "--emit", "book", "--out", path, code=1).stderr
        assert path.read_bytes() == content

    def test_an_output_that_cannot_be_made(self, data_dir: Path, tmp_path: Path) -> None:
        out = tmp_path / "absent" / "book.jsonl"
        assert "out: " in replay(data_dir / BYBIT_SPOT, "--emit", "book", "--out", out, code=1).stderr


def test_writes_a_file(data_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "book.jsonl"
    result = replay(data_dir / BYBIT_SPOT, "--emit", "book", "--out", out)
    assert result.stdout == ""
    assert out.read_text() == replay(data_dir / BYBIT_SPOT, "--emit", "book").stdout
    assert [path.name for path in tmp_path.iterdir()] == ["book.jsonl"]
