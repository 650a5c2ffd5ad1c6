"""The recorder against an exchange the test scripts; what it wrote is read back by the capture reader."""

import asyncio
import json
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from inference.replay import replay_trades
from lob.captures import open_capture, open_captures
from lob.captures.rotation import RotationPolicy
from lob.errors import InputError
from lob.instrument import Instrument
from lob.row_status import RowStatus
from lob.rows import RowPath
from lob.trade_tape import TradeTape
from lob.venues import make_decoder
from serve.reconnect import ReconnectPolicy
from serve.recorder import Recorder, RecorderConfig, RecordingSummary
from serve.verification import verify_captures
from tests.serve.waiting import until

pytestmark = pytest.mark.anyio

INSTRUMENT = Instrument(symbol="BTCUSDT", tick_size="0.10")


def configure(path: Path | None, url: str, **options) -> RecorderConfig:
    settings: dict[str, Any] = {
        "url": url,
        "instrument": INSTRUMENT,
        "path": path,
        "stall_ms": 5_000,
        "reconnect": ReconnectPolicy(initial_s=0.02, factor=1, cap_s=0.02),
    }
    return RecorderConfig(**(settings | options))


def statuses(path: Path) -> list[RowStatus]:
    """What replaying a recording gives, frame by frame."""
    rows = RowPath(make_decoder("bybit"), INSTRUMENT)
    return [rows.on_frame(frame, receive_ns) for receive_ns, frame in open_capture(path)]


async def test_every_frame_is_written_as_it_came_and_replays(
    tmp_path, scripted_exchange, market_frames
) -> None:
    path = tmp_path / "btc.jsonl.zst"
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        recorder = Recorder(configure(path, exchange.url))
        assert not path.exists()
        summary = await play_and_stop(exchange, recorder, market_frames)
    capture = open_capture(path)
    assert capture.venue == "bybit"
    (hint,) = capture.instruments
    assert (hint.symbol, hint.tick_size) == ("BTCUSDT", "0.10")
    assert capture.source == exchange.url
    recorded = list(capture)
    assert [frame for _, frame in recorded[1:]] == market_frames
    assert b'"op": "subscribe"' in recorded[0][1]  # the acknowledgement
    arrivals = [receive_ns for receive_ns, _ in recorded]
    assert arrivals == sorted(arrivals)
    assert not {RowStatus.GAP, RowStatus.WAITING} & set(statuses(path))
    assert (summary.frames, summary.snapshots, summary.gaps, summary.resyncs) == (601, 1, 0, 0)
    assert summary.file_bytes == path.stat().st_size
    assert summary.frame_bytes == sum(len(frame) for _, frame in recorded)


async def test_a_gap_is_counted_and_answered_by_a_new_snapshot_in_the_same_file(
    tmp_path, scripted_exchange, market_frames
) -> None:
    path = tmp_path / "btc.jsonl.zst"
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        recorder = Recorder(configure(path, exchange.url))
        running = asyncio.create_task(recorder.run())
        await until(lambda: len(exchange.requests) == 1)
        await exchange.play(market_frames[:50])
        await exchange.play(market_frames[51:60])
        await until(lambda: exchange.operations() == ["subscribe", "unsubscribe", "subscribe"])
        await exchange.play(market_frames)
        exchange.connections[-1].transport.abort()
        await until(lambda: len(exchange.requests) == 4)
        await exchange.play(market_frames)
        await until(lambda: recorder._consumer.snapshots == 3)
        recorder.stop()
        summary = await asyncio.wait_for(running, 5)
    assert (summary.gaps, summary.lost_books, summary.resyncs) == (1, 1, 1)
    assert (summary.snapshots, summary.connections) == (3, 2)
    replayed = statuses(path)
    assert replayed.count(RowStatus.GAP) == 1
    assert replayed.count(RowStatus.SNAPSHOT) == 3


async def test_a_silent_feed_is_asked_for_a_snapshot(tmp_path, scripted_exchange, market_frames) -> None:
    async with scripted_exchange() as exchange:
        recorder = Recorder(configure(tmp_path / "a.jsonl.zst", exchange.url, stall_ms=200))
        running = asyncio.create_task(recorder.run())
        await until(lambda: len(exchange.requests) >= 3)
        recorder.stop()
        summary = await asyncio.wait_for(running, 5)
    assert summary.stalls >= 1
    assert summary.resyncs >= 1


async def test_ends_by_itself_after_its_seconds(tmp_path, scripted_exchange) -> None:
    async with scripted_exchange() as exchange:
        config = configure(tmp_path / "a.jsonl.zst", exchange.url, seconds=0.3)
        summary = await asyncio.wait_for(Recorder(config).run(), 5)
    assert summary.seconds >= 0.3
    assert (summary.frames, summary.files, summary.holds_book) == (2, 1, True)
    with pytest.raises(InputError, match="seconds: -1 came, above 0 is allowed"):
        configure(tmp_path / "b.jsonl.zst", "ws://127.0.0.1:1", seconds=-1)


async def test_a_file_that_exists_is_not_overwritten(tmp_path) -> None:
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(b"precious")
    with pytest.raises(InputError, match="exists; a recording never overwrites"):
        Recorder(configure(path, "ws://127.0.0.1:1"))
    with pytest.raises(InputError, match=r"a\.jsonl\.zst: cannot be created \(File exists\)"):
        Recorder(configure(path / "b.jsonl.zst", "ws://127.0.0.1:1"))
    assert path.read_bytes() == b"precious"


async def play_and_stop(exchange, recorder: Recorder, frames: list[bytes]) -> RecordingSummary:
    """Record the answer to the subscription and `frames`."""
    running = asyncio.create_task(recorder.run())
    asked = len(exchange.requests) + 1
    await until(lambda: len(exchange.requests) == asked)
    await exchange.play(frames)
    await until(lambda: recorder._writer.frames == len(frames) + 1)
    recorder.stop()
    return await asyncio.wait_for(running, 60)


REFUSAL = {"success": False, "ret_msg": "Invalid symbol", "op": "subscribe"}


async def test_a_refused_recording_leaves_nothing_behind_and_its_name_free(
    tmp_path, scripted_exchange, market_frames
) -> None:
    path, root = tmp_path / "a.jsonl.zst", tmp_path / "captures"
    async with scripted_exchange() as exchange:
        acknowledge, exchange.acknowledge = exchange.acknowledge, lambda request: REFUSAL
        for config in (configure(path, exchange.url), configure(None, exchange.url, root=root)):
            recorder = Recorder(config)
            with pytest.raises(InputError, match="Invalid symbol"):
                await asyncio.wait_for(recorder.run(), 5)
            assert recorder._writer.frames == 1  # the refusal was written down
        assert [one for one in tmp_path.rglob("*.zst*") if one.is_file()] == []
        exchange.acknowledge = acknowledge
        recorder = Recorder(configure(path, exchange.url))
        running = asyncio.create_task(recorder.run())
        await until(lambda: recorder._consumer.snapshots == 1)
        recorder.stop()
        await asyncio.wait_for(running, 5)
    assert path.exists()


def asked(exchange: Any, requests: int) -> bool:
    return len(exchange.requests) == requests


def wrote(recorder: Recorder, frames: int) -> bool:
    return recorder._writer.frames == frames


@pytest.mark.parametrize("answers", [True, False], ids=["an answer came", "nothing came"])
async def test_a_recording_stopped_before_any_book_came_leaves_nothing_behind(
    tmp_path, scripted_exchange, answers
) -> None:
    path, root = tmp_path / "a.jsonl.zst", tmp_path / "captures"
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        if not answers:
            exchange.acknowledge = lambda request: None
        for number, config in enumerate(
            (configure(path, exchange.url), configure(None, exchange.url, root=root)), 1
        ):
            recorder = Recorder(config)
            running = asyncio.create_task(recorder.run())
            await until(partial(asked, exchange, number))
            await until(partial(wrote, recorder, int(answers)))
            recorder.stop()
            summary = await asyncio.wait_for(running, 60)
            assert (summary.files, summary.file_bytes, summary.holds_book) == (0, 0, False)
            assert (summary.frames, summary.path) == (answers, str(config.directory))
    assert [one for one in tmp_path.rglob("*.zst*") if one.is_file()] == []


async def test_a_recording_stopped_at_once_leaves_nothing_behind(tmp_path, free_tcp_port) -> None:
    recorder = Recorder(
        configure(tmp_path / "a.jsonl.zst", f"ws://127.0.0.1:{free_tcp_port}/v5/public/linear")
    )
    recorder.stop()
    summary = await asyncio.wait_for(recorder.run(), 60)
    assert (summary.frames, summary.files, summary.connections) == (0, 0, 0)
    assert list(tmp_path.iterdir()) == []


async def test_what_came_before_any_book_is_kept_and_is_not_whole(
    tmp_path, scripted_exchange, market_frames
) -> None:
    path = tmp_path / "a.jsonl.zst"
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        summary = await play_and_stop(exchange, Recorder(configure(path, exchange.url)), market_frames[1:20])
    assert (summary.files, summary.path, summary.holds_book) == (1, str(path), False)
    assert [frame for _, frame in open_capture(path)][1:] == market_frames[1:20]
    (report,) = verify_captures([path])
    assert not report.is_whole(allow_gaps=False)


async def test_an_address_that_never_answers_leaves_nothing_behind(tmp_path, free_tcp_port) -> None:
    reconnect = ReconnectPolicy(initial_s=0.02, factor=1, cap_s=0.02, attempts=2)
    config = configure(
        tmp_path / "a.jsonl.zst", f"ws://127.0.0.1:{free_tcp_port}/v5/public/linear", reconnect=reconnect
    )
    with pytest.raises(InputError, match="given up after 2 attempts"):
        await asyncio.wait_for(Recorder(config).run(), 5)
    assert list(tmp_path.iterdir()) == []


async def test_a_feed_that_fails_for_good_leaves_a_readable_part(
    tmp_path, scripted_exchange, market_frames
) -> None:
    path = tmp_path / "a.jsonl.zst"
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        recorder = Recorder(configure(path, exchange.url))
        running = asyncio.create_task(recorder.run())
        await until(lambda: len(exchange.requests) == 1)
        await exchange.play(market_frames[:50])
        await until(lambda: recorder._writer.frames == 51)
        exchange.acknowledge = lambda request: REFUSAL
        exchange.connections[-1].transport.abort()
        with pytest.raises(InputError, match="Invalid symbol"):
            await asyncio.wait_for(running, 5)
    assert not path.exists()
    recorded = [frame for _, frame in open_capture(path.with_name(path.name + ".part"))]
    assert recorded[1:51] == market_frames[:50]
    assert json.loads(recorded[51])["ret_msg"] == "Invalid symbol"


async def test_captures_in_turn_and_a_new_start_that_goes_on(
    tmp_path, scripted_exchange, market_frames
) -> None:
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        rotation = RotationPolicy(every_s=None, file_bytes=2_000)
        config = configure(None, exchange.url, root=tmp_path, category="linear", rotation=rotation)

        async def record(starts: int) -> None:
            recorder = Recorder(config)
            running = asyncio.create_task(recorder.run())
            await until(lambda: len(exchange.requests) == starts)
            await exchange.play(market_frames[:300], pause_s=0.004)
            await until(lambda: recorder._writer.frames == 301)
            recorder.stop()
            summary = await asyncio.wait_for(running, 5)
            assert (summary.frames, summary.snapshots, summary.gaps) == (301, 1, 0)
            assert summary.files > 2
            assert summary.path == str(tmp_path / "bybit/linear/BTCUSDT/orderbook.50")

        await record(1)
        await record(2)
    reports = verify_captures([tmp_path])
    assert all(report.is_whole(allow_gaps=False) for report in reports)
    frames = [frame for _, frame in open_captures([Path(report.path) for report in reports])]
    assert [frame for frame in frames if frame.startswith(b'{"topic"')] == market_frames[:300] * 2
    assert len({report.index.recording for report in reports}) == 2


async def test_a_path_or_a_root() -> None:
    for path, root in ((None, None), (Path("a"), Path("b"))):
        with pytest.raises(InputError, match="path and root: one of the two is allowed, and needed"):
            configure(path, "ws://127.0.0.1:1", root=root)


def trade_frame(number: int, exchange_ms: int) -> bytes:
    trade = {"T": exchange_ms, "s": "BTCUSDT", "S": "Buy", "v": "0.001", "p": "60000.10", "i": f"t{number}"}
    message = {"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": exchange_ms, "data": [trade]}
    return json.dumps(message, separators=(",", ":")).encode()


async def test_trades_are_recorded_between_the_books_frames(
    tmp_path, scripted_exchange, market_frames
) -> None:
    played = []
    for number, frame in enumerate(market_frames[:200]):
        played.append(frame)
        if number % 4 == 0:
            played.append(trade_frame(number, json.loads(frame)["cts"] + 1))
    played.insert(30, b'{"topic":"publicTrade.BTCUSDT","ty')  # cut short: the trade consumer's own
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        config = configure(None, exchange.url, root=tmp_path, trades=True)
        recorder = Recorder(config)
        running = asyncio.create_task(recorder.run())
        await until(lambda: len(exchange.asked()) == 2)
        await exchange.play(played)
        await until(lambda: recorder._writer.frames == len(played) + 1)
        recorder.stop()
        summary = await asyncio.wait_for(running, 5)
    topics = [request["args"] for request in exchange.requests]
    assert topics == [["orderbook.50.BTCUSDT", "publicTrade.BTCUSDT"]]
    (report,) = verify_captures([tmp_path])
    frames = [frame for _, frame in open_capture(report.path)]
    assert [frame for frame in frames if frame.startswith(b'{"topic"')] == played
    assert (summary.trades, summary.gaps, report.index.trades, report.index.not_json) == (50, 0, 50, 1)
    assert report.faults == ()
    rows = RowPath(make_decoder("bybit"), INSTRUMENT, sampling="every_message")
    lines = [
        json.loads(line) for line in replay_trades(open_capture(report.path), rows, TradeTape(INSTRUMENT))
    ]
    for before, line in pairwise(lines):
        for trade in line["trades"]:
            assert before["exchange_ms"] < trade["exchange_ms"] <= line["exchange_ms"]
    assert sum(len(line["trades"]) for line in lines) >= 49
