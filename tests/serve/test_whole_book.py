"""Bybit's whole book over real sockets: the exchange's topic and REST route, the subscriber, the recorder."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from inference.pipeline import Pipeline
from inference.registry import load_model
from lob.book_digest import book_digest
from lob.captures import open_capture, open_captures
from lob.captures.capture import recording_header
from lob.captures.layout import capture_files
from lob.captures.rotation import RotationPolicy
from lob.errors import InputError
from lob.instrument import Instrument
from lob.market import MarketConfiguration
from lob.messages import WHOLE_BOOK
from lob.row_status import RowStatus
from lob.rows import RowPath
from lob.sync import SymbolState
from lob.venues import make_decoder
from serve import bybit_whole_book
from serve.bybit_stream import BookTopic, read_depth
from serve.bybit_whole_book import SNAPSHOT_PATH, BybitWholeBookStream
from serve.clock import AnchoredClock
from serve.exchange import Exchange, ExchangeConfiguration
from serve.fault_plan import KINDS, FaultPlan, FaultRule, is_possible
from serve.feed import Feed
from serve.feed_config import FeedConfig
from serve.feed_policies import LagPolicy, ResyncPolicy
from serve.listing import Listing, capture_listing, simulated_listing
from serve.playback import Pace
from serve.reconnect import ReconnectPolicy
from serve.recorder import Recorder, RecorderConfig
from serve.service import Service, ServiceConfig
from serve.venue_stream import Reply
from serve.verification import verify_captures
from tests.serve.waiting import until

pytestmark = pytest.mark.anyio

TOPIC = "orderbook.full.BTCUSDT"
BOOK = BookTopic(symbol="BTCUSDT", depth=WHOLE_BOOK)
INSTRUMENT = Instrument(symbol="BTCUSDT", tick_size="0.10")
QUICK = ReconnectPolicy(initial_s=0.02, factor=1, cap_s=0.02)


@pytest.fixture(scope="module")
def market() -> Listing:
    """A simulated market's whole book."""
    return simulated_listing([MarketConfiguration(depth=WHOLE_BOOK, seed=2)])


@asynccontextmanager
async def running(listing: Listing, *rules: FaultRule, speed: float | None = 20.0) -> AsyncIterator[Exchange]:
    configuration = ExchangeConfiguration(
        port=0, pace=Pace(speed=speed), faults=FaultPlan(rules=rules), kept_books=20_000
    )
    async with Exchange(listing, configuration) as exchange:
        yield exchange


async def get(exchange: Exchange, query: str = "category=linear&symbol=BTCUSDT") -> dict[str, Any]:
    def ask() -> bytes:
        url = f"http://{exchange.host}:{exchange.port}{SNAPSHOT_PATH}?{query}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.read()

    return json.loads(await asyncio.to_thread(ask))


def digest(path: RowPath) -> int:
    sides = [np.array(side, np.float64).reshape(-1, 2) for side in path.book.printed(100_000)]
    return book_digest(*(column for side in sides for column in (side[:, 0], side[:, 1])))


class Watcher:
    """A consumer as the service's: a pipeline, its book held against the exchange's after every frame."""

    def __init__(self, exchange: Exchange, models_dir: Path) -> None:
        self.pipeline = Pipeline.create(load_model("tiny", models_dir), INSTRUMENT, depth=WHOLE_BOOK)
        self.compared = self.predictions = self.lives = 0
        self.states: list[SymbolState] = []
        self._exchange = exchange

    keeps_book = True

    @property
    def reason(self) -> str:
        return self.pipeline.reason

    @property
    def unreadable_frames(self) -> int:
        return self.pipeline.counters["malformed"] + self.pipeline.counters["not_json"]

    @property
    def needs_resync(self) -> bool:
        return self.pipeline.needs_resync

    @property
    def awaits_snapshot(self) -> bool:
        return self.pipeline.state in {SymbolState.WAITING_SNAPSHOT, SymbolState.STALE}

    def on_connected(self) -> None:
        self.pipeline.on_connected()
        self._note()

    def on_disconnected(self, reason: str) -> None:
        self.pipeline.on_disconnected(reason)
        self._note()

    def on_frame(self, frame: bytes, receive_ns: int) -> None:
        prediction = self.pipeline.on_frame(frame, receive_ns)
        self._note()
        rows = self.pipeline.rows
        if rows.book.usable:
            truth = self._exchange.books.digests(TOPIC, rows.book.update_id)
            assert digest(rows) in truth, f"a wrong book at {rows.book.update_id}"
            self.compared += 1
        if prediction is not None:
            assert rows.book.usable
            self.predictions += 1

    def on_unnamed_frame(self, frame: bytes, receive_ns: int, *, readable: bool) -> None:
        self.pipeline.rows.count_unnamed(readable=readable)

    def check_freshness(self, now_ns: int) -> None:
        self.pipeline.check_freshness(now_ns)
        self._note()

    def resync_requested(self) -> None:
        self.pipeline.resync_requested()

    def _note(self) -> None:
        if not self.states or self.states[-1] is not self.pipeline.state:
            self.states.append(self.pipeline.state)
            self.lives += self.pipeline.state is SymbolState.LIVE


@asynccontextmanager
async def watching(
    exchange: Exchange, models_dir: Path, **resync: float
) -> AsyncIterator[tuple[Watcher, Feed]]:
    watcher = Watcher(exchange, models_dir)
    config = FeedConfig(
        url=exchange.url(),
        check_interval_s=0.02,
        reconnect=QUICK,
        resync=ResyncPolicy(**({"minimum_interval_s": 0.05} | resync)),
    )
    venue = BybitWholeBookStream(exchange.url(), "linear")
    feed = Feed(config, {BOOK: watcher}, AnchoredClock(), venue=venue)
    task = asyncio.create_task(feed.run())
    try:
        yield watcher, feed
    finally:
        finished = task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if finished:
            task.result()


async def test_the_wire_has_changes_alone_and_the_route_the_book(market: Listing) -> None:
    async with running(market, FaultRule(kind="restart", every=25, times=1)) as exchange:
        assert exchange.listing.topics == (TOPIC,)
        unknown = await get(exchange)
        assert (unknown["retCode"], unknown["result"]["b"], unknown["result"]["u"]) == (0, [], 1)
        assert (await get(exchange, "category=linear&symbol=ETHUSDT"))["retCode"] == 10001
        assert (await get(exchange, "symbol=BTCUSDT"))["retMsg"] == "Illegal category"
        async with connect(exchange.url(), compression=None, proxy=None, max_size=None) as connection:
            await connection.send(json.dumps({"op": "subscribe", "args": [TOPIC]}))
            assert json.loads(await connection.recv())["success"]
            frames = [json.loads(await connection.recv()) for _ in range(40)]
        body = (await get(exchange))["result"]
    assert {frame["type"] for frame in frames} == {"delta"}
    numbers = [frame["data"]["u"] for frame in frames]
    restart = numbers.index(1)
    assert frames[restart]["data"]["b"] == frames[restart]["data"]["a"] == []
    assert {second - first for first, second in pairwise(numbers[:restart])} == {1}
    assert numbers[restart:] == list(range(1, 41 - restart))
    sequences = [frame["data"]["seq"] for frame in frames]
    assert sequences == sorted(sequences)
    assert set(body) == {"s", "b", "a", "ts", "u", "seq", "cts"}
    assert (len(body["b"]), len(body["a"])) == (2_000, 2_000)
    best = [[float(price) for price, _ in body[side]] for side in "ba"]
    assert best == [sorted(best[0], reverse=True), sorted(best[1])]


async def test_the_book_goes_live_at_the_snapshot_asked_for_with_the_first_change(
    market: Listing, models_dir: Path
) -> None:
    async with running(market) as exchange, watching(exchange, models_dir) as (watcher, feed):
        await until(lambda: watcher.predictions >= 20)
    assert watcher.states[:4] == [
        SymbolState.CONNECTING,
        SymbolState.WAITING_SNAPSHOT,
        SymbolState.WARMING,
        SymbolState.LIVE,
    ] or watcher.states[:3] == [SymbolState.WAITING_SNAPSHOT, SymbolState.WARMING, SymbolState.LIVE]
    assert (feed.counters.resyncs, feed.counters.connections) == (0, 1)
    assert watcher.compared > 20
    counters = watcher.pipeline.rows.counters
    assert (counters["refused"], counters["gap"], counters["snapshot"]) == (0, 0, 1)


@pytest.mark.parametrize("kind", ["drop", "reorder", "late", "restart", "malformed", "truncated", "crossed"])
async def test_after_a_fault_the_book_is_right_again(market: Listing, models_dir: Path, kind: str) -> None:
    rule = FaultRule(kind=kind, after=30, times=2, every=40)
    async with running(market, rule) as exchange, watching(exchange, models_dir) as (watcher, feed):
        await until(lambda: exchange.faults.counts[kind] == 2)
        before = watcher.predictions
        await until(lambda: watcher.predictions > before + 10)
    assert SymbolState.STALE in watcher.states
    assert watcher.lives >= 2
    assert (feed.counters.resyncs >= 1, feed.counters.connections) == (True, 1)


@pytest.mark.parametrize("kind", ["duplicate", "fragments", "one-sided"])
async def test_what_loses_nothing_needs_no_snapshot(market: Listing, models_dir: Path, kind: str) -> None:
    rule = FaultRule(kind=kind, after=30, times=3, every=10)
    async with running(market, rule) as exchange, watching(exchange, models_dir) as (watcher, feed):
        await until(lambda: exchange.faults.counts[kind] == 3)
        before = watcher.predictions
        await until(lambda: watcher.predictions > before + 10)
    assert feed.counters.resyncs == 0
    assert SymbolState.STALE not in watcher.states


async def test_old_and_failing_snapshots_are_asked_for_again(market: Listing, models_dir: Path) -> None:
    rules = (
        FaultRule(kind="failed-snapshot", times=2, every=1),
        FaultRule(kind="old-snapshot", times=2, every=1, after=1),  # of those that do not fail
        FaultRule(kind="drop", after=200, times=1),
    )
    async with running(market, *rules) as exchange, watching(exchange, models_dir) as (watcher, feed):
        await until(lambda: watcher.lives == 1)
        assert exchange.faults.counts["failed-snapshot"] == 2
        await until(lambda: exchange.faults.counts["drop"] == 1 and watcher.lives == 2)
    assert exchange.faults.counts["old-snapshot"] >= 1  # the second is not asked for where the first joins
    assert feed.counters.refusals == 2
    assert feed.counters.connections == 1


async def test_lost_connections_begin_the_procedure_anew(market: Listing, models_dir: Path) -> None:
    rules = (
        FaultRule(kind="abort", after=30, times=1),
        FaultRule(kind="refuse", after=70, times=1, seconds=0.2),
    )
    async with running(market, *rules) as exchange, watching(exchange, models_dir) as (watcher, feed):
        await until(lambda: feed.counters.connections == 3)
        before = watcher.predictions
        await until(lambda: watcher.predictions > before + 10)
    assert SymbolState.CONNECTING in watcher.states[1:]


async def test_silent_topic_is_subscribed_anew(market: Listing, models_dir: Path) -> None:
    """No change, no snapshot: after the policy's time the topic, or all of the connection, begins anew."""
    rule = FaultRule(kind="stall", after=0, times=1, seconds=1.0)
    async with (
        running(market, rule) as exchange,
        watching(exchange, models_dir, snapshot_timeout_s=0.2) as (watcher, feed),
    ):
        await until(lambda: watcher.lives == 1)
    assert feed.counters.connections > 1


@pytest.mark.slow
async def test_random_faults_of_all_kinds_leave_no_wrong_book(market: Listing, models_dir: Path) -> None:
    kinds = tuple(kind for kind in KINDS if is_possible(kind, TOPIC))
    plan = FaultPlan(random_every_s=0.4, random_kinds=kinds, seed=5)
    configuration = ExchangeConfiguration(port=0, pace=Pace(speed=20), faults=plan, kept_books=20_000)
    async with (
        Exchange(market, configuration) as exchange,
        watching(exchange, models_dir, snapshot_timeout_s=1.0) as (watcher, _),
    ):
        await until(lambda: exchange.faults.counts.total() >= 60, 120)
        lives = watcher.lives
        await until(lambda: watcher.lives > lives or watcher.pipeline.state is SymbolState.LIVE, 60)
    assert watcher.compared > 100
    assert watcher.lives > 10


async def test_one_fault_for_many_symbols_resyncs_one(models_dir: Path) -> None:
    symbols = ("BTCUSDT", "ETHUSDT")
    listing = simulated_listing([MarketConfiguration(symbol=one, depth=WHOLE_BOOK) for one in symbols])
    rule = FaultRule(kind="drop", after=40, times=1, topic=TOPIC)
    async with running(listing, rule) as exchange:
        service = Service(
            ServiceConfig(
                symbols=symbols,
                url=exchange.url(),
                category="linear",
                model="tiny",
                models_dir=models_dir,
                depth=read_depth("full"),
                tick_sizes=dict.fromkeys(symbols, "0.10"),
                port=0,
                resync=ResyncPolicy(minimum_interval_s=0.05),
                lag=LagPolicy(maximum_wait_ms=None),
            )
        )
        task = asyncio.create_task(service.run())
        try:
            pipelines = {symbol: one.pipeline for symbol, one in service.symbols.items()}
            await until(lambda: exchange.faults.counts["drop"] == 1)
            await until(lambda: pipelines["BTCUSDT"].counters["snapshot"] == 2)
            await until(lambda: all(one.state is SymbolState.LIVE for one in pipelines.values()))
            host, port = service.address
            async with httpx.AsyncClient() as client:
                book = (await client.get(f"http://{host}:{port}/v1/book/ETHUSDT")).json()
        finally:
            service.stop()
            await task
    assert pipelines["BTCUSDT"].counters["snapshot"] == 2
    assert pipelines["ETHUSDT"].counters["snapshot"] == 1
    assert len(book["bids"]) == 5


def configure(url: str, **options: Any) -> RecorderConfig:
    settings: dict[str, Any] = {
        "depth": WHOLE_BOOK,
        "url": url,
        "instrument": INSTRUMENT,
        "stall_ms": 5_000,
        "reconnect": QUICK,
        "resync": ResyncPolicy(minimum_interval_s=0.05),
    }
    return RecorderConfig(**(settings | options))


async def record(exchange: Exchange, frames: int, **options: Any) -> Recorder:
    recorder = Recorder(configure(exchange.url(), **options))
    task = asyncio.create_task(recorder.run())
    await until(lambda: recorder._writer.frames >= frames or task.done())
    recorder.stop()
    await task
    return recorder


async def test_recording_replays_and_is_served_again(market: Listing, tmp_path: Path) -> None:
    first, second = tmp_path / "first.jsonl.zst", tmp_path / "second.jsonl.zst"
    async with running(market) as exchange:
        await record(exchange, 120, path=first)
    (report,) = verify_captures([first])
    assert report.is_whole(allow_gaps=False), report
    statuses: dict[RowStatus, int] = dict.fromkeys(RowStatus, 0)
    rows = RowPath(make_decoder("bybit"), INSTRUMENT, sampling="every_message")
    books: dict[int, int] = {}
    for receive_ns, frame in open_capture(first):
        statuses[rows.on_frame(frame, receive_ns)] += 1
        if rows.book.usable:
            books[rows.update_id] = digest(rows)
    assert (statuses[RowStatus.SNAPSHOT], statuses[RowStatus.GAP], statuses[RowStatus.REFUSED]) == (1, 0, 0)
    assert statuses[RowStatus.ROW] > 100
    listing = capture_listing(open_captures([first]))
    async with running(listing, speed=1) as exchange:  # of its own pace, which was 20 times the market's
        recorder = await record(exchange, 100, path=second)
        truth = {update: exchange.books.digests(TOPIC, update) for update in books}
    assert recorder._consumer.snapshots == 1
    known = {update: digests for update, digests in truth.items() if digests}
    assert len(known) > 50
    assert all(books[update] in digests for update, digests in known.items())


async def test_rotated_recording_goes_on_from_its_own_checkpoint(market: Listing, tmp_path: Path) -> None:
    async with running(market, speed=40) as exchange:
        await record(exchange, 500, root=tmp_path, rotation=RotationPolicy(every_s=1, file_bytes=None))
    files = capture_files([tmp_path])
    assert len(files) > 1
    assert files[0].parent == tmp_path / "bybit" / "linear" / "BTCUSDT" / "orderbook.full"
    reports = verify_captures(files)
    assert {report.is_whole(allow_gaps=False) for report in reports} == {True}, reports
    stated = [path for path in files if (header := recording_header(path)) and header.checkpoint]
    assert stated
    for path in stated:
        alone = RowPath(make_decoder("bybit"), INSTRUMENT, sampling="every_message")
        statuses = [alone.on_frame(frame, receive_ns) for receive_ns, frame in open_capture(path)]
        assert statuses[0] is RowStatus.SNAPSHOT
        assert statuses[1] in {RowStatus.ROW, RowStatus.GAP}


class Venue:
    """Answers REST requests as the test says."""

    def __init__(self) -> None:
        self.url = ""
        self.answer: tuple[int, bytes] = (200, b"")
        self.paths: list[str] = []

    async def handle(self, connection: ServerConnection) -> None:
        await connection.wait_closed()

    def answer_http(self, connection: ServerConnection, request: Request) -> Response:
        self.paths.append(request.path)
        status, body = self.answer
        headers = Headers({"Content-Length": str(len(body)), "Connection": "close"})
        return Response(status, "any", headers, body)


@asynccontextmanager
async def run_venue() -> AsyncIterator[Venue]:
    venue = Venue()
    async with serve(venue.handle, "127.0.0.1", 0, process_request=venue.answer_http) as server:
        host, port = server.sockets[0].getsockname()
        venue.url = f"ws://{host}:{port}/v5/public/linear"
        yield venue


async def test_answers_that_are_no_snapshot_are_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = b'{"retCode":0,"retMsg":"OK","result":{"s":"BTCUSDT","b":[],"a":[],"ts":2,"u":3,"seq":4,"cts":1}}'
    async with run_venue() as venue:
        stream = BybitWholeBookStream(venue.url, "linear")
        venue.answer = (200, whole)
        assert await stream.fetch_snapshot(BOOK) == whole
        assert venue.paths == [f"{SNAPSHOT_PATH}?category=linear&symbol=BTCUSDT"]
        assert await stream.fetch_snapshot(BookTopic(symbol="BTCUSDT", depth=50)) is None
        assert not stream.snapshot_follows(BookTopic(symbol="BTCUSDT", depth=50))
        for answer, words in (
            ((500, b"oops"), "it answers HTTP 500"),
            ((200, b"<html>"), "not the documented one"),
            ((200, b'{"retCode":0,"result":{}}'), "not the documented one"),
            ((200, whole.replace(b"BTCUSDT", b"ETHUSDT")), "not the documented one"),
            ((200, whole.replace(b'"seq":4,', b"")), "not the documented one"),
            ((200, b'{"retCode":10006,"retMsg":"Too many visits!\\u0007","result":{}}'), "Too many visits!?"),
        ):
            venue.answer = answer
            reply = await stream.fetch_snapshot(BOOK)
            assert isinstance(reply, Reply)
            assert (reply.success, words in reply.message) == (False, True), reply
            assert reply.retry_after_s is None
        venue.answer = (403, b"access too frequent")
        reply = await stream.fetch_snapshot(BOOK)
        assert isinstance(reply, Reply)
        assert (reply.success, reply.retry_after_s) == (False, 600.0)
        monkeypatch.setattr(bybit_whole_book, "MAXIMUM_SNAPSHOT_BYTES", len(whole) - 1)
        venue.answer = (200, whole)
        reply = await stream.fetch_snapshot(BOOK)
        assert isinstance(reply, Reply)
        assert "above" in reply.message


async def test_no_snapshot_is_asked_for_while_the_exchange_wants_to_be_left_alone(
    market: Listing, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def refuse(stream: BybitWholeBookStream, topic: BookTopic) -> Reply:
        asked.append(topic.name)
        return Reply(request_id="", success=False, message="access too frequent", retry_after_s=600.0)

    monkeypatch.setattr(BybitWholeBookStream, "fetch_snapshot", refuse)
    async with running(market) as exchange, watching(exchange, models_dir) as (watcher, feed):
        await until(lambda: feed.counters.frames >= 60)
        assert watcher.states[-1] is not SymbolState.LIVE
    assert asked == [TOPIC]


async def test_old_snapshot_is_some_updates_behind(market: Listing, models_dir: Path) -> None:
    rule = FaultRule(kind="old-snapshot", topic=TOPIC, every=2)
    async with running(market, rule) as exchange, watching(exchange, models_dir) as (watcher, _):
        await until(lambda: watcher.compared > 60)
        behind = []
        for _ in range(2):  # one of them meets the rule
            newest = exchange.timelines[TOPIC].book.update_id
            behind.append(newest - (await get(exchange))["result"]["u"])
    assert exchange.faults.counts["old-snapshot"] >= 1
    assert min(behind) <= 0 < max(behind) < 20


def test_depths_are_numbers_or_full() -> None:
    assert (read_depth("50"), read_depth("full")) == (50, WHOLE_BOOK)
    assert BOOK.name == TOPIC
    with pytest.raises(InputError, match="depth: 'all' came, 1, 50, 200, 500, 1000 and full are allowed"):
        read_depth("all")
    with pytest.raises(InputError, match="depth: 7 came, 1, 50, 200, 500, 1000 and full are allowed"):
        BookTopic(symbol="BTCUSDT", depth=7)
    with pytest.raises(InputError, match="allowed: 1, 50, 200, 500, 1000 and full"):
        MarketConfiguration(depth=7)


def test_kinds_that_need_a_snapshot_in_the_stream_spare_the_whole_book() -> None:
    assert {kind for kind in KINDS if not is_possible(kind, TOPIC)} == {"snapshot", "delta-first"}
    spared = {kind for kind in KINDS if not is_possible(kind, "orderbook.50.BTCUSDT")}
    assert spared == {"old-snapshot", "failed-snapshot"}
