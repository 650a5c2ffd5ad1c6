"""The subscriber on Binance's combined streams, against a real server that replays what Binance sent."""

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from inference.pipeline import Pipeline
from inference.registry import load_model
from lob.errors import InputError
from lob.instrument import Instrument
from lob.row_status import RowStatus
from lob.rows import RowPath
from lob.venues import make_decoder
from serve.binance_stream import BinanceStream, DepthTopic, TradeTopic, resolve_binance, rest_url
from serve.feed_policies import IdlePolicy, LagPolicy, ResyncPolicy, StallPolicy
from serve.instruments import find_instrument
from serve.reconnect import ReconnectPolicy
from serve.service import Service, ServiceConfig
from tests.serve.binance_venue import run_binance
from tests.serve.waiting import until

pytestmark = pytest.mark.anyio

CAPTURES = {
    "linear": ("usdm_btcusdt_20240808.gz", "btcusdt@depth@0ms", "0.10"),
    "spot": ("spot_btcusdt_20240808.gz", "btcusdt@depth@100ms", "0.01"),
}


class Captured:
    """The start of a capture: the changes before the snapshot came, the snapshot, the changes after it."""

    def __init__(self, data_dir: Path, category: str) -> None:
        name, topic, self.tick_size = CAPTURES[category]
        self.early: list[bytes] = []
        self.later: list[bytes] = []
        self.trades: list[bytes] = []
        self.snapshot = b""
        trade_topic = TradeTopic(symbol="BTCUSDT", category=category).name.encode()
        with gzip.open(data_dir / "binance" / name, "rb") as lines:
            for line in islice(lines, 3_000):
                frame = line.split(b" ", 1)[1].strip()
                if b"lastUpdateId" in frame:
                    self.snapshot = frame
                elif topic.encode() in frame:
                    # The captured futures stream is the @0ms one; the subscriber asks for @100ms.
                    (self.later if self.snapshot else self.early).append(frame.replace(b"@0ms", b"@100ms"))
                elif b'@trade"' in frame:
                    self.trades.append(frame.replace(b"btcusdt@trade", trade_topic))


def configure(models_dir: Path, url: str, category: str, tick_size: str, **options) -> ServiceConfig:
    settings: dict[str, Any] = {
        "symbols": ("BTCUSDT",),
        "venue": "binance",
        "url": url,
        "category": category,
        "model": "tiny",
        "models_dir": models_dir,
        "tick_sizes": {"BTCUSDT": tick_size},
        "port": 0,
        "reconnect": ReconnectPolicy(initial_s=0.02, factor=1, cap_s=0.02),
        "resync": ResyncPolicy(minimum_interval_s=0.1),
        "lag": LagPolicy(maximum_wait_ms=None),  # a follower made in this loop holds it up
    }
    return ServiceConfig(**(settings | options))


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[list[dict]]:
    """Runs a service; answers the list that its messages come into."""
    task = asyncio.create_task(service.run())
    host, port = service.address
    await until(lambda: service._server.started or task.done())
    messages: list[dict] = []

    async def listen_to_all() -> None:
        async with connect(f"ws://{host}:{port}/v1/stream", close_timeout=0.2) as client:
            await client.send('{"op":"subscribe","args":["prediction.BTCUSDT"]}')
            async for text in client:
                messages.append(json.loads(text))  # noqa: PERF401 - read by the test while it grows

    listening = asyncio.create_task(listen_to_all())
    await until(lambda: len(messages) >= 2)
    try:
        yield messages
    finally:
        service.stop()
        await task
        with contextlib.suppress(ConnectionClosed):
            await listening


def states(messages: list[dict]) -> list[str]:
    return [m["data"]["state"] for m in messages if m.get("type") == "state"]


def received(messages: list[dict]) -> dict[int, list]:
    predictions = [m["data"] for m in messages if m.get("type") == "prediction"]
    return {p["update_id"]: [(h["horizon"], h["probabilities"]) for h in p["horizons"]] for p in predictions}


def replayed(models_dir: Path, tick_size: str, frames: list[bytes]) -> dict[int, list]:
    instrument = Instrument(symbol="BTCUSDT", tick_size=tick_size)
    pipeline = Pipeline.create(load_model("tiny", models_dir), instrument, venue="binance")
    pipeline.on_connected()
    made = [pipeline.on_frame(frame, 1) for frame in frames]
    return {p.update_id: [(h.horizon, h.probabilities) for h in p.horizons] for p in made if p}


@pytest.mark.parametrize("category", ["linear", "spot"])
async def test_the_captured_stream_is_joined_to_its_snapshot_and_served(
    models_dir, data_dir, category: str
) -> None:
    captured = Captured(data_dir, category)
    assert len(captured.early) >= 2
    expected = replayed(models_dir, captured.tick_size, [*captured.early, captured.snapshot, *captured.later])
    assert len(expected) > 150
    async with run_binance() as venue:
        taken = asyncio.Event()
        venue.answer = lambda path, query: (503, b"") if not taken.is_set() else (200, captured.snapshot)
        service = Service(configure(models_dir, venue.url, category, captured.tick_size, trades=True))
        counters = service.symbols["BTCUSDT"].pipeline.rows
        async with running(service) as messages:
            await until(lambda: len(venue.connections) == 1)
            await venue.play(captured.early)
            await until(lambda: counters.counters["waiting"] == len(captured.early))
            taken.set()  # only now is the snapshot to be had
            await until(lambda: counters.counters["snapshot"] == 1)
            await venue.play(captured.trades[:100])
            await venue.play(captured.later)
            await until(lambda: max(expected) in received(messages))
            assert received(messages) == expected  # bit for bit
            tape = service.symbols["BTCUSDT"].trades.tape
            assert (tape.trades, tape.malformed) == (len(captured.trades[:100]), 0)
        assert states(messages)[:4] == ["waiting_snapshot", "warming", "live", "stale"]
        streams = TradeTopic(symbol="BTCUSDT", category=category).name
        assert f"/stream?streams=btcusdt@depth@100ms/{streams}" in venue.paths
        base = "/fapi/v1" if category == "linear" else "/api/v3"
        assert f"{base}/depth?symbol=BTCUSDT&limit=1000" in venue.paths
        assert service.feed.counters.connections == 1


@pytest.mark.parametrize("snapshot_comes", ["before the changes", "after the changes"])
async def test_a_gap_is_answered_by_a_new_snapshot_on_the_same_connection(
    models_dir, data_dir, snapshot_comes: str
) -> None:
    """Changes that wait for a snapshot become one row with it, so the model warms on those that follow."""
    captured = Captured(data_dir, "spot")
    async with run_binance() as venue:
        venue.answer = lambda path, query: (200, captured.snapshot)
        stall = StallPolicy(after_ms=60_000)  # a stream that has paused is no part of this
        service = Service(configure(models_dir, venue.url, "spot", captured.tick_size, stall=stall))
        pipeline = service.symbols["BTCUSDT"].pipeline
        async with running(service) as messages:
            await until(lambda: pipeline.rows.counters["snapshot"] == 1)
            await venue.play([*captured.early, *captured.later[:100]])
            last = json.loads(captured.later[99])["data"]["u"]
            await until(lambda: last in received(messages))
            # The snapshot to come stands at the end of a later change, with the levels of then.
            lost = captured.later[100]
            follower = Pipeline.create(
                load_model("tiny", models_dir),
                Instrument(symbol="BTCUSDT", tick_size=captured.tick_size),
                venue="binance",
            )
            follower.on_connected()
            for frame in [*captured.early, captured.snapshot, *captured.later[:120]]:
                follower.on_frame(frame, 1)
            bids, asks = follower.rows.book.printed(5_000)
            newer = json.dumps(
                {
                    "lastUpdateId": follower.rows.update_id,
                    "bids": [[f"{price:.2f}", f"{size:.8f}"] for price, size in bids],
                    "asks": [[f"{price:.2f}", f"{size:.8f}"] for price, size in asks],
                }
            ).encode()
            asked = venue.snapshots_asked()
            venue.answer = lambda path, query: (200, newer)
            venue.answering.clear()
            await venue.play(captured.later[101:102])
            await until(lambda: venue.snapshots_asked() == asked + 1)
            if snapshot_comes == "before the changes":
                venue.answering.set()
                await until(lambda: pipeline.rows.counters["snapshot"] == 2)
                await venue.play(captured.later[102:140])
            else:
                await venue.play(captured.later[102:140])
                await until(lambda: pipeline.rows.counters["waiting"] == len(captured.later[102:140]))
                venue.answering.set()
                await until(lambda: pipeline.rows.counters["snapshot"] == 2)
                assert pipeline.rows.window.count == 1
            final = json.loads(captured.later[199])["data"]["u"]
            await venue.play(captured.later[140:200])
            await until(lambda: final in received(messages))
            assert states(messages)[-4:] == ["live", "stale", "warming", "live"]  # once, and no flapping
        assert json.loads(lost)["data"]["u"] not in received(messages)
        assert venue.snapshots_asked() == asked + 1
        assert service.feed.counters.connections == 1
        assert service.feed.counters.resyncs == 1
        # The book is the one an unbroken stream gives.
        for frame in captured.later[120:200]:
            follower.on_frame(frame, 1)
        assert pipeline.rows.book.printed(20) == follower.rows.book.printed(20)


async def test_a_snapshot_refused_for_now_is_asked_for_again_and_one_refused_for_good_ends_it(
    models_dir, data_dir
) -> None:
    captured = Captured(data_dir, "spot")
    async with run_binance() as venue:
        venue.answer = lambda path, query: (503, b'{"code":-1000,"msg":"Service unavailable."}')
        service = Service(configure(models_dir, venue.url, "spot", captured.tick_size))
        async with running(service):
            await until(lambda: venue.snapshots_asked() >= 3)
            assert len(venue.connections) == 1
            venue.answer = lambda path, query: (200, captured.snapshot)
            pipeline = service.symbols["BTCUSDT"].pipeline
            await until(lambda: pipeline.rows.counters["snapshot"] == 1)
        venue.answer = lambda path, query: (400, b'{"code":-1121,"msg":"Invalid symbol."}')
        service = Service(configure(models_dir, venue.url, "spot", captured.tick_size))
        with pytest.raises(InputError, match=r"HTTP 400 Invalid symbol\."):
            await asyncio.wait_for(service.run(), 5)


async def test_a_quiet_stream_is_kept_while_pings_are_answered(models_dir, data_dir) -> None:
    captured = Captured(data_dir, "spot")
    async with run_binance() as venue:
        venue.answer = lambda path, query: (200, captured.snapshot)
        idle = IdlePolicy(probe_after_s=0.1, answer_within_s=0.1)
        options = {"idle": idle, "stall": StallPolicy(after_ms=60_000)}
        service = Service(configure(models_dir, venue.url, "spot", captured.tick_size, **options))
        async with running(service):
            await until(lambda: len(venue.connections) == 1)
            await asyncio.sleep(0.6)
            assert len(venue.connections) == 1
            venue.connections[0].transport.pause_reading()  # and now no ping is answered
            await until(lambda: len(venue.connections) == 2)
            assert service.feed.counters.idle_connections == 1


async def test_the_tick_and_lot_size_are_asked_of_the_venue() -> None:
    listed = {
        "symbols": [
            {
                "symbol": "BTCUSDT",
                "filters": [
                    {"filterType": "PRICE_FILTER", "minPrice": "0.01000000", "tickSize": "0.01000000"},
                    {"filterType": "LOT_SIZE", "stepSize": "0.00001000"},
                ],
            }
        ]
    }
    async with run_binance() as venue:
        venue.answer = lambda path, query: (200, json.dumps(listed).encode())

        async def ask(category: str, symbol: str = "BTCUSDT"):
            return await asyncio.to_thread(find_instrument, venue.url, category, symbol, venue="binance")

        info = await ask("spot")
        assert (info.tick_size, info.lot_size) == ("0.01000000", "0.00001000")
        assert info.instrument.ticks("61837.63000000") == 6_183_763
        await ask("linear")
        assert venue.paths == ["/api/v3/exchangeInfo?symbol=BTCUSDT", "/fapi/v1/exchangeInfo"]
        with pytest.raises(InputError, match="does not list ETHUSDT; give it with --tick-size"):
            await ask("linear", "ETHUSDT")
        venue.answer = lambda path, query: (400, b'{"code":-1121,"msg":"Invalid symbol."}')
        with pytest.raises(InputError, match=r"it answers Invalid symbol\.; give it"):
            await ask("spot")
        venue.answer = lambda path, query: (500, b"oops")
        with pytest.raises(InputError, match="it answers HTTP 500"):
            await ask("spot")
        venue.answer = lambda path, query: (200, b"<html>")
        with pytest.raises(InputError, match="not the documented one"):
            await ask("spot")


def test_addresses_and_topics_are_spelled_as_the_venue_spells_them() -> None:
    assert resolve_binance(None, None) == ("wss://fstream.binance.com", "linear")
    assert resolve_binance(None, "spot") == ("wss://stream.binance.com:9443", "spot")
    assert resolve_binance("ws://127.0.0.1:9/", "spot") == ("ws://127.0.0.1:9/", "spot")
    with pytest.raises(InputError, match="category: 'inverse' came, linear, spot are allowed"):
        resolve_binance(None, "inverse")
    assert rest_url("wss://stream.binance.com:9443", "spot") == "https://api.binance.com/api/v3"
    assert rest_url("wss://fstream.binance.com", "linear") == "https://fapi.binance.com/fapi/v1"
    assert rest_url("ws://127.0.0.1:9001", "spot") == "http://127.0.0.1:9001/api/v3"
    stream = BinanceStream("wss://fstream.binance.com", "linear")
    topics = [DepthTopic(symbol="BTCUSDT"), DepthTopic(symbol="ETHUSDT")]
    address = stream.address("wss://fstream.binance.com", topics)
    assert address == "wss://fstream.binance.com/stream?streams=btcusdt@depth@100ms/ethusdt@depth@100ms"
    assert stream.topic_of(b'{"data":{},"stream":"btcusdt@depth@100ms"}') == "btcusdt@depth@100ms"
    assert stream.topic_of(b"no JSON") == ""
    with pytest.raises(InputError, match="symbol: "):
        DepthTopic(symbol="BTC/USDT")


@pytest.mark.parametrize(
    "frame",
    [b'{"result":null,"id":1}', b'{"error":{"code":2,"msg":"no"},"id":1}', b"no JSON", b"[]", b'{"stream":"'],
)
def test_a_frame_can_be_read_or_not_as_a_book_would_find(frame) -> None:
    rows = RowPath(make_decoder("binance"), Instrument(symbol="BTCUSDT", tick_size="0.10"))
    readable = BinanceStream("ws://127.0.0.1:9001", "linear").is_readable(frame)
    assert rows.on_frame(frame, 1) is (RowStatus.NOT_BOOK if readable else RowStatus.NOT_JSON)
