"""Many topics on one connection: each is on its own, whatever befalls another."""

import asyncio
import contextlib
import json
import logging
import time
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from lob.errors import InputError
from serve.bybit_stream import BookTopic, TradeTopic
from serve.clock import AnchoredClock
from serve.feed import Feed
from serve.feed_config import FeedConfig
from serve.feed_connection import TOPICS_A_TURN, RefusedSubscriptionError
from serve.feed_policies import IdlePolicy, ResyncPolicy, SilencePolicy
from serve.frame_consumer import FrameConsumer
from serve.reconnect import ReconnectPolicy
from serve.venue_connection import QUEUED_FRAMES, ConnectionEndedError
from serve.venue_stream import Topic
from tests.serve.running_feed import running
from tests.serve.scripted_consumer import Consumer
from tests.serve.turn_count import counting_turns
from tests.serve.waiting import until

pytestmark = pytest.mark.anyio
QUICK = ReconnectPolicy(initial_s=0.02, factor=1, cap_s=0.02, settled_s=60)


def book(symbol: str, update_id: int) -> str:
    return (
        f'{{"topic":"orderbook.50.{symbol}","type":"delta","ts":1,'
        f'"data":{{"s":"{symbol}","b":[],"a":[],"u":{update_id},"seq":1}},"cts":1}}'
    )


class Setting:
    """Three symbols on one feed."""

    def __init__(self, url: str, **options: Any) -> None:
        options.setdefault("reconnect", QUICK)
        options.setdefault("check_interval_s", 0.02)
        self.consumers = {symbol: Consumer() for symbol in ("BTCUSDT", "ETHUSDT", "XRPUSDT")}
        topics: dict[Topic, FrameConsumer] = {
            BookTopic(symbol=symbol, depth=50): consumer for symbol, consumer in self.consumers.items()
        }
        self.feed = Feed(FeedConfig(url=url, **options), topics, AnchoredClock())
        self.btc, self.eth, self.xrp = self.consumers.values()


def asked(exchange, since: int = 0) -> list[str]:
    return [f"{operation} {topic.rpartition('.')[2]}" for operation, topic in exchange.asked()[since:]]


async def test_frames_go_to_their_topics_consumer_and_strange_ones_to_nobody(scripted_exchange) -> None:
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        setting = Setting(exchange.url)
        async with running(setting.feed):
            await until(lambda: len(exchange.asked()) == 3)
            assert asked(exchange) == ["subscribe BTCUSDT", "subscribe ETHUSDT", "subscribe XRPUSDT"]
            send = exchange.connections[0].send
            for number in range(50):
                await send(book("BTCUSDT", number))
                await send(book("XRPUSDT", 100 + number))
            await send(book("DOGEUSDT", 1))
            await send('{"topic":"publicTrade.BTCUSDT","ts":1,"data":[]}')
            spaced = json.dumps(json.loads(book("ETHUSDT", 7)), sort_keys=True)  # the topic stands last
            assert not spaced.startswith('{"topic"')
            await send(spaced)
            await send("no JSON")
            await until(lambda: (b"no JSON", False) in setting.btc.unnamed)
        counters = setting.feed.counters
        assert setting.btc.books == list(range(50))
        assert setting.xrp.books == list(range(100, 150))
        assert setting.eth.books == [7]
        assert (counters.unknown_topics, counters.unnamed_frames) == (2, 2)  # one answer, one unreadable
        for consumer in setting.consumers.values():
            assert consumer.others == []
            assert consumer.unnamed[-1] == (b"no JSON", False)  # it may have been anybody's
            assert [readable for _, readable in consumer.unnamed] == [True, False]
        subscriptions = setting.feed.subscriptions
        assert [one.counters.frames for one in subscriptions.values()] == [50, 1, 50]
        assert subscriptions["orderbook.50.ETHUSDT"].counters.bytes == len(spaced)


async def test_whoever_looks_at_all_topics_takes_few_of_them_a_turn(scripted_exchange) -> None:
    async with scripted_exchange() as exchange, counting_turns() as count:
        exchange.snapshots = False
        consumers = {f"COIN{number}USDT": Consumer() for number in range(90)}
        topics: dict[Topic, FrameConsumer] = {
            BookTopic(symbol=symbol, depth=50): consumer for symbol, consumer in consumers.items()
        }
        feed = Feed(FeedConfig(url=exchange.url, check_interval_s=0.02), topics, AnchoredClock())
        for consumer in consumers.values():
            consumer.check_freshness = lambda now_ns: count.note()  # type: ignore[method-assign]
        last = consumers["COIN89USDT"]
        async with running(feed):
            await until(lambda: len(exchange.asked()) == len(consumers))
            await until(lambda: count.done.total() > 3 * len(consumers))
            last.needs_resync = True
            await exchange.connections[0].send(book("COIN89USDT", 1))
            await until(lambda: last.resyncs == 1)  # the last of them is looked at, too
        assert count.most == TOPICS_A_TURN


async def test_a_lost_book_is_subscribed_again_alone(scripted_exchange) -> None:
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        setting = Setting(exchange.url, resync=ResyncPolicy(minimum_interval_s=0.05))
        async with running(setting.feed):
            await until(lambda: len(exchange.asked()) == 3)
            setting.eth.needs_resync = True
            await exchange.connections[0].send(book("ETHUSDT", 1))
            await until(lambda: len(exchange.asked()) == 5)
            await asyncio.sleep(0.1)
        assert asked(exchange, 3) == ["unsubscribe ETHUSDT", "subscribe ETHUSDT"]
        assert (setting.btc.resyncs, setting.eth.resyncs, setting.xrp.resyncs) == (0, 1, 0)
        assert setting.btc.events == ["connected", "the feed was stopped"]
        assert setting.feed.counters.resyncs == 1
        assert setting.feed.counters.connections == 1


async def test_a_topic_without_a_snapshot_is_asked_for_again_alone_while_others_live(
    scripted_exchange,
) -> None:
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        policy = ResyncPolicy(minimum_interval_s=0.05, snapshot_timeout_s=0.1)
        setting = Setting(exchange.url, resync=policy)
        setting.eth.awaits_snapshot = True
        async with running(setting.feed):
            await until(lambda: setting.eth.resyncs >= 3)
            assert len(exchange.connections) == 1
            assert setting.btc.resyncs == setting.xrp.resyncs == 0
            # Where none gets any further, the connection is what is wrong.
            setting.btc.awaits_snapshot = setting.xrp.awaits_snapshot = True
            await until(lambda: len(exchange.connections) == 2)
        assert setting.btc.events[1] == "no snapshot in 0.1 s"


async def test_a_refused_topic_is_left_out_and_the_others_live(scripted_exchange, caplog) -> None:
    caplog.set_level(logging.WARNING, "serve")
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        accept = exchange.acknowledge

        def answer(request: dict) -> dict:
            if "orderbook.50.ETHUSDT" in request["args"]:
                return accept(request) | {"success": False, "ret_msg": "Invalid symbol :[ETHUSDT]"}
            return accept(request)

        exchange.acknowledge = answer
        setting = Setting(exchange.url)
        async with running(setting.feed):
            await until(lambda: len(setting.eth.events) == 2)
            await exchange.connections[0].send(book("BTCUSDT", 1))
            await until(lambda: setting.btc.books == [1])
            exchange.connections[0].transport.abort()
            await until(lambda: len(exchange.connections) == 2 and len(asked(exchange)) == 8)
        expected = "the exchange refuses orderbook.50.ETHUSDT: Invalid symbol :[ETHUSDT]"
        assert setting.eth.events == ["connected", expected]
        assert any("Invalid symbol" in record.message for record in caplog.records)
        # All at once, then each alone, and on the next connection all that there are at once again.
        assert [len(request["args"]) for request in exchange.requests] == [3, 1, 1, 1, 2]
        assert asked(exchange, 6) == ["subscribe BTCUSDT", "subscribe XRPUSDT"]
        counters = [one.counters.refusals for one in setting.feed.subscriptions.values()]
        assert counters == [0, 1, 0]


async def test_a_refusal_without_an_id_is_of_the_topic_it_names_and_all_refused_is_the_end(
    scripted_exchange,
) -> None:
    async with scripted_exchange() as exchange:
        exchange.acknowledge = lambda request: {
            "success": False,
            "ret_msg": f"Invalid symbol :[{request['args'][0]}]",
            "op": "subscribe",
        }
        setting = Setting(exchange.url)
        with pytest.raises(RefusedSubscriptionError) as caught:
            await asyncio.wait_for(setting.feed.run(), 60)
        for symbol, consumer in setting.consumers.items():
            assert f"Invalid symbol :[orderbook.50.{symbol}]" in consumer.events[-1]
            assert consumer.events[-1] in str(caught.value)


async def test_a_topic_refused_for_now_is_asked_for_again_alone(scripted_exchange) -> None:
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        accept = exchange.acknowledge
        refusals: list[dict[str, Any]] = []

        def answer(request: dict) -> dict:
            if "orderbook.50.ETHUSDT" in request["args"] and len(refusals) < 4:
                refusals.append(request)
                return accept(request) | {"success": False, "ret_msg": "system busy"}
            return accept(request)

        exchange.acknowledge = answer
        setting = Setting(exchange.url)
        async with running(setting.feed):
            await until(lambda: len(asked(exchange)) == 9)
            await asyncio.sleep(0.1)
        each = ["subscribe BTCUSDT", "subscribe ETHUSDT", "subscribe XRPUSDT"]
        assert asked(exchange, 3) == [*each, *["subscribe ETHUSDT"] * 3]
        assert setting.feed.counters.refusals == 3
        assert setting.feed.counters.connections == 1


async def test_trades_that_flow_do_not_hide_that_no_book_gets_any_further(scripted_exchange) -> None:
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        book_consumer, trades = Consumer(), Consumer()
        book_consumer.awaits_snapshot = True
        trades.keeps_book = False
        feed = Feed(
            FeedConfig(
                url=exchange.url,
                reconnect=QUICK,
                check_interval_s=0.02,
                resync=ResyncPolicy(snapshot_timeout_s=0.2),
            ),
            {BookTopic(symbol="BTCUSDT", depth=50): book_consumer, TradeTopic(symbol="BTCUSDT"): trades},
            AnchoredClock(),
        )
        async with running(feed):
            await until(lambda: len(exchange.asked()) == 2)
            while len(exchange.connections) == 1:
                with contextlib.suppress(ConnectionClosed):
                    await exchange.connections[0].send('{"topic":"publicTrade.BTCUSDT","ts":1,"data":[]}')
                await asyncio.sleep(0.01)
        assert book_consumer.events[1] == "no snapshot in 0.2 s"
        assert len(trades.others) > 5


async def test_an_acknowledgement_that_comes_twice_changes_nothing(scripted_exchange) -> None:
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        setting = Setting(exchange.url)
        async with running(setting.feed):
            await until(lambda: len(exchange.asked()) == 3)
            for request in list(exchange.requests):
                for success in (True, False):
                    reply = exchange.acknowledge(request) | {"success": success, "ret_msg": "Invalid symbol"}
                    await exchange.connections[0].send(json.dumps(reply))
            await exchange.connections[0].send(book("BTCUSDT", 1))
            await until(lambda: setting.btc.books == [1])
        assert setting.feed.counters.refusals == 0
        assert len(exchange.requests) == 1


async def test_a_silent_connection_is_replaced_and_one_with_a_living_topic_is_not(
    scripted_exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot that a new subscription brings is a frame: only where none comes is the topic silent."""
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        setting = Setting(
            exchange.url, resync=ResyncPolicy(minimum_interval_s=0.05), silence=SilencePolicy(after_s=1.0)
        )

        def lose(now_ns: int) -> None:
            setting.btc.needs_resync = True

        monkeypatch.setattr(setting.btc, "check_freshness", lose)
        async with running(setting.feed):
            await until(lambda: len(exchange.asked()) == 3)
            clock = asyncio.get_running_loop().time
            began_s, number = clock(), 0
            while clock() - began_s < 1.5 or asked(exchange).count("subscribe BTCUSDT") < 3:
                number += 1
                await exchange.connections[0].send(book("ETHUSDT", number))
                await asyncio.sleep(0.01)
            assert len(exchange.connections) == 1
            await until(lambda: len(exchange.connections) == 2)  # now ETHUSDT is silent, too
        assert setting.btc.events[1].startswith("no frame of any topic for ")
        assert setting.feed.counters.silent_connections >= 1


async def test_a_connection_that_brings_nothing_is_probed_and_then_given_up(scripted_exchange) -> None:
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        setting = Setting(exchange.url, idle=IdlePolicy(probe_after_s=0.1, answer_within_s=0.1))
        async with running(setting.feed):
            await until(lambda: exchange.operations().count("ping") >= 3)  # a quiet market: pongs come
            assert len(exchange.connections) == 1
            exchange.pongs = False
            await until(lambda: len(exchange.connections) == 2)
        assert setting.btc.events[1].startswith("silent for ")
        assert setting.btc.events[1].endswith("no answer to a ping either")
        assert setting.feed.counters.idle_connections == 1


async def test_a_connection_is_not_idle_while_one_topic_flows(scripted_exchange) -> None:
    async with scripted_exchange() as exchange:
        exchange.snapshots = exchange.pongs = False
        setting = Setting(exchange.url, idle=IdlePolicy(probe_after_s=1.0, answer_within_s=0.1))
        async with running(setting.feed):
            await until(lambda: len(exchange.asked()) == 3)
            for number in range(80):
                await exchange.connections[0].send(book("BTCUSDT", number))
                await asyncio.sleep(0.02)
            assert exchange.operations().count("ping") == 0
            assert len(exchange.connections) == 1


async def test_a_consumer_too_slow_for_its_feed_loses_nothing_and_is_counted(
    scripted_exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        setting = Setting(exchange.url)
        take = setting.btc.on_frame

        def slowly(frame: bytes, receive_ns: int) -> None:
            time.sleep(0.0005)
            take(frame, receive_ns)

        monkeypatch.setattr(setting.btc, "on_frame", slowly)
        async with running(setting.feed):
            await until(lambda: len(exchange.asked()) == 3)
            frames = 8 * QUEUED_FRAMES
            most = 0
            exchange.connections[0].transport.set_write_buffer_limits(high=2**24)
            for number in range(frames):
                await exchange.connections[0].send(book("BTCUSDT", number))
                if number % 64 == 0:
                    await asyncio.sleep(0)
                    most = max(most, setting.feed.waiting_frames)
            await until(lambda: len(setting.btc.books) == frames)
        assert setting.btc.books == list(range(frames))
        assert most > QUEUED_FRAMES // 2
        assert setting.feed.counters.full_queues >= 1
        assert setting.feed.waiting_frames == 0


async def test_a_consumer_may_give_the_connection_up(
    scripted_exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        setting = Setting(exchange.url)

        def give_up(frame: bytes, receive_ns: int) -> None:
            if b"orderbook" in frame:
                raise ConnectionEndedError("too late")

        monkeypatch.setattr(setting.eth, "on_frame", give_up)
        async with running(setting.feed):
            await until(lambda: len(exchange.asked()) == 3)
            await exchange.connections[0].send(book("ETHUSDT", 1))
            await until(lambda: len(setting.btc.events) == 3)
            assert exchange.connections[0].close_code == 1001
        assert setting.btc.events[:3] == ["connected", "too late", "connected"]


def test_topics_and_addresses_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="topics: none came"):
        Feed(FeedConfig(url="ws://127.0.0.1:1"), {}, AnchoredClock())
    with pytest.raises(InputError, match=r"url: ws://10.0.0.1 came without TLS; .*--allow-plaintext"):
        FeedConfig(url="ws://user:secret@10.0.0.1:9001/v5/public/linear")
    assert FeedConfig(url="ws://10.0.0.1:9001/", allow_plaintext=True).allow_plaintext
    assert FeedConfig(url="wss://10.0.0.1:9001/").url
    assert FeedConfig(url="ws://localhost:9001/").url
    with pytest.raises(InputError, match="check_interval_s: 0 came, above 0"):
        FeedConfig(url="ws://127.0.0.1:1", check_interval_s=0)
