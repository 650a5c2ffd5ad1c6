"""What the subscriber does when Binance falls silent, refuses, lags or answers nonsense."""

import asyncio
import json
from typing import Any

import pytest

from inference.pipeline import Pipeline
from inference.registry import load_model
from lob.instrument import Instrument
from lob.sync import SymbolState
from serve.binance_stream import BinanceStream, DepthTopic
from serve.clock import AnchoredClock
from serve.feed import Feed
from serve.feed_config import FeedConfig
from serve.feed_policies import ResyncPolicy, SilencePolicy, SnapshotPolicy
from serve.frame_consumer import FrameConsumer
from serve.hub import Hub
from serve.publisher import PredictionPublisher
from serve.rate_bound import RequestRate
from serve.reconnect import ReconnectPolicy
from serve.venue_stream import Reply, Topic
from tests.serve.binance_venue import BinanceVenue, run_binance
from tests.serve.running_feed import running
from tests.serve.waiting import until

pytestmark = pytest.mark.anyio

QUICK: dict[str, Any] = {
    "check_interval_s": 0.01,
    "reconnect": ReconnectPolicy(initial_s=0.02, factor=1, cap_s=0.02),
    "resync": ResyncPolicy(minimum_interval_s=0.02),
    "snapshot": SnapshotPolicy(rate=RequestRate(burst=100, per_s=100)),
}
BTC, ETH = "BTCUSDT", "ETHUSDT"


def change(symbol: str, update_id: int, *, first: int | None = None, price: str = "100.0") -> bytes:
    return json.dumps(
        {
            "stream": f"{symbol.lower()}@depth@100ms",
            "data": {
                "e": "depthUpdate",
                "E": 1_700_000_000_000 + update_id,
                "s": symbol,
                "U": update_id if first is None else first,
                "u": update_id,
                "b": [[price, str(update_id)]],
                "a": [],
            },
        },
        separators=(",", ":"),
    ).encode()


def snapshot(update_id: int) -> bytes:
    return json.dumps(
        {"lastUpdateId": update_id, "bids": [["100.0", "1"]], "asks": [["100.1", "2"]]}
    ).encode()


class Setting:
    """Two symbols' pipelines with a real model, on one feed from Binance's spot market."""

    def __init__(
        self, models_dir, venue: BinanceVenue, *, stall_ms: dict[str, int] | None = None, **options
    ) -> None:
        clock = AnchoredClock()
        hub = Hub([BTC, ETH], clock)
        model = load_model("tiny", models_dir)
        self.pipelines = {
            symbol: Pipeline.create(
                model,
                Instrument(symbol=symbol, tick_size="0.1"),
                venue="binance",
                stall_ms=(stall_ms or {}).get(symbol, 60_000),
            )
            for symbol in (BTC, ETH)
        }
        consumers: dict[Topic, FrameConsumer] = {
            DepthTopic(symbol=symbol): PredictionPublisher(pipeline, hub)
            for symbol, pipeline in self.pipelines.items()
        }
        self.btc, self.eth = self.pipelines.values()
        config = FeedConfig(url=venue.url, **(QUICK | options))
        self.feed = Feed(config, consumers, clock, venue=BinanceStream(venue.url, "spot"))
        self.counters = self.feed.counters

    def resyncs(self, symbol: str) -> int:
        return self.feed.subscriptions[f"{symbol.lower()}@depth@100ms"].counters.resyncs

    def stand(self) -> bool:
        """Whether both books do."""
        return all(one.state is SymbolState.WARMING for one in self.pipelines.values())


async def test_where_all_streams_are_silent_the_connection_is_replaced(models_dir, caplog) -> None:
    async with run_binance() as venue:
        venue.answer = lambda path, query: (200, snapshot(100))
        setting = Setting(
            models_dir, venue, stall_ms={BTC: 150, ETH: 150}, silence=SilencePolicy(after_s=0.1)
        )
        async with running(setting.feed):
            await until(lambda: len(venue.connections) == 1 and setting.stand())
            await venue.play(
                [change(BTC, 101), change(ETH, 101)]
            )  # and then nothing, though pings are answered
            await until(lambda: len(venue.connections) == 2)
        assert setting.counters.silent_connections >= 1
        assert setting.counters.idle_connections == 0
        assert venue.subscriptions() == []  # no use, where nothing comes
    assert any("no frame of any topic for " in record.getMessage() for record in caplog.records)
    assert any(
        "btcusdt@depth@100ms: the book is lost: feed stalled: no book message for 150 ms; fetching a new"
        in record.getMessage()
        for record in caplog.records
    )


async def test_an_exchange_that_stays_silent_is_connected_to_ever_more_seldom(models_dir, caplog) -> None:
    """A connection that brings nothing is a failed attempt, however long it stood."""
    async with run_binance() as venue:
        venue.answer = lambda path, query: (200, snapshot(100))
        setting = Setting(
            models_dir,
            venue,
            stall_ms={BTC: 50, ETH: 50},
            silence=SilencePolicy(after_s=0.1),
            reconnect=ReconnectPolicy(initial_s=0.05, factor=2, cap_s=10, jitter=0, settled_s=0.05),
        )
        async with running(setting.feed):
            await until(lambda: len(venue.connections) == 4)
    waits = [record.getMessage().rpartition("connecting again in ")[2] for record in caplog.records]
    assert [wait for wait in waits if wait.endswith(" s")][:3] == ["0.05 s", "0.10 s", "0.20 s"]


async def test_a_silent_symbol_among_living_ones_is_subscribed_again_alone(models_dir, caplog) -> None:
    async with run_binance() as venue:
        last = {BTC: 100, ETH: 100}
        venue.answer = lambda path, query: (200, snapshot(last[query["symbol"]]))
        setting = Setting(models_dir, venue, stall_ms={ETH: 150}, silence=SilencePolicy(after_s=1.0))

        async def move(symbol: str) -> None:
            last[symbol] += 1
            await venue.play([change(symbol, last[symbol])])
            await asyncio.sleep(0.01)

        async with running(setting.feed):
            await until(lambda: len(venue.connections) == 1 and setting.stand())
            while len(venue.requests) < 2:
                await move(BTC)
            topic = "ethusdt@depth@100ms"
            assert venue.subscriptions()[:2] == [("UNSUBSCRIBE", topic), ("SUBSCRIBE", topic)]
            assert setting.resyncs(ETH) >= 2  # a snapshot alone was tried first
            rows = setting.eth.rows.counters["row"]
            while setting.eth.rows.counters["row"] < rows + 3:  # it comes again, and joins
                await move(BTC)
                await move(ETH)
            assert len(venue.connections) == 1
            assert {stream for _, stream in venue.subscriptions()} == {topic}
        assert setting.btc.counters["stalls"] == 0
        assert setting.resyncs(BTC) == 0
        assert setting.counters.silent_connections == 0
    lost = [r.getMessage() for r in caplog.records if "subscribing again" in r.getMessage()]
    assert "ethusdt@depth@100ms: the book is lost: feed stalled: no book message for 150 ms" in lost[0]


def test_a_stream_is_sent_fewer_than_five_messages_in_any_second() -> None:
    rate = BinanceStream.request_rate
    assert 2 * (rate.burst + rate.per_s) < 5  # a request leaves a topic and subscribes it


async def test_an_exchange_that_wants_to_be_left_alone_is(models_dir, caplog) -> None:
    async with run_binance() as venue:
        venue.headers = {"Retry-After": "1"}
        venue.answer = lambda path, query: (429, b'{"code":-1003,"msg":"Too many requests."}')
        setting = Setting(models_dir, venue)
        async with running(setting.feed):
            await until(lambda: len(venue.asked) >= 2)  # both were under way
            venue.answer = lambda path, query: (200, snapshot(100))
            await until(setting.stand)
            assert len(venue.connections) == 1
        assert venue.asked[2][1] - venue.asked[0][1] >= 1.0
    assert any(
        "no snapshot is fetched for 1 s, as the exchange asks" in r.getMessage() for r in caplog.records
    )


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [
        (429, None, 60),
        (418, None, 120),
        (403, None, 60),
        (418, "999999999", 259_200),
        (429, "7", 7),
        (500, "7", None),
    ],
)
async def test_how_long_to_leave_it_alone(status: int, header: str | None, seconds: float | None) -> None:
    async with run_binance() as venue:
        venue.headers = {} if header is None else {"Retry-After": header}
        venue.answer = lambda path, query: (status, b"{}")
        reply = await BinanceStream(venue.url, "spot").fetch_snapshot(DepthTopic(symbol=BTC))
        assert isinstance(reply, Reply)
        assert reply.retry_after_s == seconds
        assert not reply.success


async def test_the_snapshots_of_many_symbols_are_held_to_the_rate(models_dir) -> None:
    async with run_binance() as venue:
        venue.answer = lambda path, query: (200, snapshot(100))
        policy = SnapshotPolicy(rate=RequestRate(burst=1, per_s=4))
        setting = Setting(models_dir, venue, snapshot=policy)
        began_s = asyncio.get_running_loop().time()
        async with running(setting.feed):
            await until(setting.stand)
        (first, _), (second, second_s) = venue.asked
        assert {first, second} == {BTC, ETH}
        assert second_s - began_s > 0.25


@pytest.mark.parametrize(
    "nonsense",
    [
        (200, b"<html>maintenance</html>"),
        (200, b""),
        (200, b"[" * 50_000),
        (200, b'{"lastUpdateId":1}'),
        (200, b'{"lastUpdateId":' + b"9" * 5_000 + b',"bids":[],"asks":[]}'),
        (200, b'{"lastUpdateId":5,"bids":[["x","1"]],"asks":[["100.1","2"]]}'),
        (200, b'{"lastUpdateId":5,"bids":[["100.2","1"]],"asks":[["100.1","2"]]}'),
        (200, b" " * (2 * 1024 * 1024)),
        (200, change(BTC, 7)),
        (302, b""),
        (500, b"oops"),
        (503, b'{"msg":' + b"[" * 900),
    ],
    ids=lambda nonsense: f"{nonsense[0]} {nonsense[1][:24]!r}",
)
async def test_an_answer_that_is_no_snapshot_is_asked_for_again(models_dir, nonsense: tuple) -> None:
    async with run_binance() as venue:
        venue.answer = lambda path, query: nonsense if query["symbol"] == BTC else (200, snapshot(100))
        setting = Setting(models_dir, venue)
        async with running(setting.feed):
            await until(lambda: venue.snapshots_asked(BTC) >= 2)
            assert not setting.btc.rows.book.usable
            venue.answer = lambda path, query: (200, snapshot(100))
            await until(setting.stand)
            assert len(venue.connections) == 1
            assert venue.snapshots_asked(ETH) == 1


async def test_a_snapshot_that_stays_older_than_the_stream_is_asked_for_ever_more_seldom(models_dir) -> None:
    async with run_binance() as venue:
        venue.answer = lambda path, query: (200, snapshot(100))
        setting = Setting(
            models_dir,
            venue,
            resync=ResyncPolicy(minimum_interval_s=0.05),
            snapshot=SnapshotPolicy(hopeless_after=4),
        )
        venue.answering.clear()
        began_s = asyncio.get_running_loop().time()
        async with running(setting.feed):
            await until(lambda: len(venue.connections) == 1)
            await venue.play([change(BTC, 200), change(ETH, 200)])
            await until(lambda: all(one.rows.counters["waiting"] == 1 for one in setting.pipelines.values()))
            venue.answering.set()
            await until(lambda: len(venue.connections) == 2)  # both are hopeless
            await until(setting.stand)  # the new connection's stream has not run ahead yet
        asked_s = [at_s for symbol, at_s in venue.asked if symbol == BTC][:5]
        assert setting.resyncs(BTC) == 4
        assert setting.counters.silent_connections == 0
        assert asked_s[4] - began_s > 0.05 * (1 + 1 + 2 + 4)


async def test_the_connection_is_lost_while_a_snapshot_is_fetched(models_dir) -> None:
    """What comes late is of a stream that is gone, and must not be joined to the new one."""
    async with run_binance() as venue:
        served: list[int] = []

        def answer(path: str, query: dict) -> tuple[int, bytes]:
            served.append(100 + 100 * (len(venue.connections) - 1))
            return 200, snapshot(served[-1])

        venue.answer = answer
        venue.answering.clear()
        setting = Setting(models_dir, venue)
        async with running(setting.feed):
            await until(lambda: len(venue.asked) == 2)
            venue.connections[0].transport.abort()
            await until(lambda: len(venue.connections) == 2 and len(venue.asked) == 4)
            venue.answering.set()
            await until(setting.stand)
            await venue.play([change(BTC, 201)])
            await until(lambda: setting.btc.rows.update_id == 201)
        assert setting.btc.rows.counters["snapshot"] == 1
        assert setting.btc.rows.counters["gap"] == 0


async def test_a_symbol_the_venue_has_removed_is_left_out_and_the_others_live(models_dir) -> None:
    async with run_binance() as venue:
        venue.answer = lambda path, query: (200, snapshot(100))
        setting = Setting(models_dir, venue)
        async with running(setting.feed):
            await until(setting.stand)
            gone = (400, b'{"code":-1121,"msg":"Invalid symbol."}')
            venue.answer = lambda path, query: gone if query["symbol"] == ETH else (200, snapshot(200))
            await venue.play([change(ETH, 110), change(BTC, 110)])  # gaps
            await until(lambda: setting.eth.state is SymbolState.CONNECTING)
            await until(lambda: setting.btc.rows.update_id == 200)
            assert "Invalid symbol." in setting.eth.reason
            await venue.play([change(ETH, 111), change(BTC, 201)])
            await until(lambda: setting.btc.rows.update_id == 201)
            assert setting.eth.state is SymbolState.CONNECTING
            assert len(venue.connections) == 1


async def test_frames_of_another_symbol_on_a_stream_change_nothing(models_dir) -> None:
    async with run_binance() as venue:
        venue.answer = lambda path, query: (200, snapshot(100))
        setting = Setting(models_dir, venue)
        async with running(setting.feed):
            await until(lambda: len(venue.connections) == 1 and setting.stand())
            await venue.play([change(ETH, 101).replace(b"ethusdt", b"btcusdt"), change(BTC, 101)])
            await until(lambda: setting.btc.rows.update_id == 101)
            assert setting.btc.rows.counters["other_stream"] == 1
            assert setting.eth.rows.update_id == 100


async def test_two_gaps_in_a_row_while_a_snapshot_is_fetched(models_dir, caplog) -> None:
    async with run_binance() as venue:
        venue.answer = lambda path, query: (200, snapshot(100))
        setting = Setting(models_dir, venue, snapshot=SnapshotPolicy(hopeless_after=100))
        async with running(setting.feed):
            await until(lambda: len(venue.connections) == 1 and setting.stand())
            venue.answering.clear()
            venue.answer = lambda path, query: (200, snapshot(105))  # before the second gap
            await venue.play([change(BTC, 103), change(BTC, 104), change(BTC, 106), change(BTC, 110)])
            await until(lambda: venue.snapshots_asked(BTC) == 2)
            await until(lambda: setting.btc.rows.counters["waiting"] == 3)
            venue.answering.set()
            await until(lambda: venue.snapshots_asked(BTC) >= 3)
            usable_in_between = setting.btc.rows.book.usable
            assert not usable_in_between
            venue.answer = lambda path, query: (200, snapshot(109))  # after it
            await until(lambda: setting.btc.rows.update_id == 110)
            assert setting.btc.rows.book.usable
            assert setting.btc.rows.book.printed(1)[0] == [(100.0, 110.0)]
            assert len(venue.connections) == 1
    assert any(
        "btcusdt@depth@100ms: the book is lost: gap in the book's sequence; fetching" in record.getMessage()
        for record in caplog.records
    )


async def test_a_frame_that_cannot_be_read_is_told(models_dir, caplog) -> None:
    async with run_binance() as venue:
        venue.answer = lambda path, query: (200, snapshot(100))
        setting = Setting(models_dir, venue)
        async with running(setting.feed):
            await until(lambda: len(venue.connections) == 1 and setting.stand())
            await venue.play([change(BTC, 101)[:70]])
            told = "frames that cannot be read were dropped: 1 of btcusdt@depth@100ms ("
            await until(lambda: any(told in record.getMessage() for record in caplog.records))
            assert setting.btc.state is SymbolState.WARMING  # the sequence shows what was lost


async def test_a_feed_may_be_cancelled_at_any_time(models_dir) -> None:
    """Nothing is left behind, whichever await it stood at."""
    async with run_binance() as venue:
        venue.answer = lambda path, query: (200, snapshot(100))
        setting = Setting(models_dir, venue, stall_ms={BTC: 30, ETH: 30}, silence=SilencePolicy(after_s=0.1))
        for milliseconds in range(60):
            task = asyncio.create_task(setting.feed.run())
            await asyncio.sleep(milliseconds / 1_000)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            left = [one.get_name() for one in asyncio.all_tasks() if one.get_name().startswith("feed-")]
            assert left == []
            assert all(one.state is SymbolState.CONNECTING for one in setting.pipelines.values())
        assert setting.feed.waiting_frames == 0
        async with running(setting.feed):
            await until(setting.stand)
