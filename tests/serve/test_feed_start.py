"""How hundreds of topics of one connection are asked for, on the local exchange: several by one request."""

from collections.abc import Sequence
from typing import Any

import pytest

from lob.market import MarketConfiguration
from serve.bybit_stream import BookTopic, BybitStream, Category, TradeTopic
from serve.bybit_whole_book import BybitWholeBookStream
from serve.clock import AnchoredClock
from serve.exchange import Exchange, ExchangeConfiguration
from serve.feed import Feed
from serve.feed_config import FeedConfig
from serve.feed_policies import ResyncPolicy
from serve.frame_consumer import FrameConsumer
from serve.listing import simulated_listing
from serve.playback import Pace
from serve.reconnect import ReconnectPolicy
from serve.venue_stream import Topic
from tests.serve.running_feed import running
from tests.serve.scripted_consumer import Consumer
from tests.serve.waiting import until

pytestmark = pytest.mark.anyio
QUICK = ReconnectPolicy(initial_s=0.02, factor=1, cap_s=0.02, settled_s=60)


def names(count: int) -> list[str]:
    return [f"COIN{number}USDT" for number in range(count)]


def exchange_of(symbols: Sequence[str], *, trades: bool = False) -> Exchange:
    """Markets slow enough that hundreds of them are played on the core that also listens."""
    markets = [MarketConfiguration(symbol=symbol) for symbol in symbols]
    return Exchange(
        simulated_listing(markets, trades=trades), ExchangeConfiguration(port=0, pace=Pace(speed=0.05))
    )


class Setting:
    """A feed of the books of `symbols`."""

    def __init__(self, url: str, category: Category, symbols: Sequence[str], **options: Any) -> None:
        self.consumers = {symbol: Consumer() for symbol in symbols}
        options.setdefault("reconnect", QUICK)
        config = FeedConfig(url=url, check_interval_s=0.02, **options)
        topics: dict[Topic, FrameConsumer] = {
            BookTopic(symbol=symbol, depth=50): one for symbol, one in self.consumers.items()
        }
        venue = BybitWholeBookStream(url, category)
        self.feed = Feed(config, topics, AnchoredClock(), venue=venue)

    def flowing(self) -> list[str]:
        return [symbol for symbol, consumer in self.consumers.items() if consumer.books]


@pytest.mark.parametrize(("category", "requests"), [("linear", 4), ("spot", 10)])
async def test_a_hundred_topics_are_asked_for_by_few_requests(category: Category, requests: int) -> None:
    symbols = names(100)
    async with exchange_of(symbols) as exchange:
        setting = Setting(exchange.url(category), category, symbols)
        async with running(setting.feed):
            await until(lambda: len(setting.flowing()) == 100)
        assert exchange.counters.requests == requests
        assert exchange.counters.refused == 0
        assert all(one.is_subscribed for one in setting.feed.subscriptions.values())
        assert setting.feed.counters.resyncs == 0


async def test_an_unknown_symbol_costs_no_other_its_place() -> None:
    listed = names(70)
    symbols = [*listed[:33], "NOSUCHUSDT", *listed[33:]]
    async with exchange_of(listed) as exchange:
        setting = Setting(exchange.url(), "linear", symbols)
        async with running(setting.feed):
            await until(lambda: len(setting.flowing()) == 70)
            strange = setting.feed.subscriptions["orderbook.50.NOSUCHUSDT"]
            await until(lambda: bool(strange.refused))
            assert setting.feed.counters.connections == 1
        reason = "the exchange refuses orderbook.50.NOSUCHUSDT: "
        reason += "error:handler not found,topic:orderbook.50.NOSUCHUSDT"
        assert setting.consumers["NOSUCHUSDT"].events == ["connected", reason]
        assert setting.feed.counters.refusals == strange.counters.refusals == 1
        # Three requests, of which the second was refused, and then each of its thirty topics alone.
        assert (exchange.counters.requests, exchange.counters.refused) == (33, 2)
        for symbol in listed:
            assert setting.consumers[symbol].events == ["connected", "the feed was stopped"]


async def test_topics_beyond_what_a_connection_may_have_leave_the_others_theirs() -> None:
    """Bybit's 21,000 characters: a request beyond them is refused, and what of it fits is taken alone."""
    symbols = [f"COIN{number}USDT".rjust(40, "X") for number in range(400)]
    length = len(BookTopic(symbol=symbols[0], depth=50).name)
    fit = 21_000 // length
    assert fit % BybitStream().topics_a_request  # else no request would be taken in part
    async with exchange_of(symbols) as exchange:
        setting = Setting(exchange.url(), "linear", symbols)
        async with running(setting.feed):
            await until(lambda: len(setting.flowing()) == fit)
            beyond = [one for one in setting.feed.subscriptions.values() if not one.is_subscribed]
            await until(lambda: all(one.counters.refusals > 0 for one in beyond))
        assert len(beyond) == 400 - fit
        assert not any(one.refused for one in beyond)  # which is not for good


async def test_books_and_trades_come_by_the_same_request() -> None:
    symbols = names(5)
    async with exchange_of(symbols, trades=True) as exchange:
        books, trades = [Consumer() for _ in symbols], [Consumer() for _ in symbols]
        consumers: dict[Topic, FrameConsumer] = {}
        for symbol, book, trade in zip(symbols, books, trades, strict=True):
            trade.keeps_book = False
            consumers[BookTopic(symbol=symbol, depth=50)] = book
            consumers[TradeTopic(symbol=symbol)] = trade
        feed = Feed(FeedConfig(url=exchange.url(), reconnect=QUICK), consumers, AnchoredClock())
        async with running(feed):
            await until(lambda: all(one.books for one in books) and any(one.others for one in trades))
        assert exchange.counters.requests == 1


async def test_a_request_that_is_never_answered_is_made_up_for_topic_by_topic(scripted_exchange) -> None:
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        accept = exchange.acknowledge
        exchange.acknowledge = lambda request: None if len(request["args"]) == 30 else accept(request)
        policy = ResyncPolicy(minimum_interval_s=0.05, acknowledgement_timeout_s=0.3)
        setting = Setting(exchange.url, "linear", names(32), resync=policy)
        async with running(setting.feed):
            subscriptions = setting.feed.subscriptions.values()
            await until(lambda: all(one.is_subscribed for one in subscriptions))
        assert [len(request["args"]) for request in exchange.requests] == [30, 2, *[1] * 60]
        resyncs = [consumer.resyncs for consumer in setting.consumers.values()]
        assert resyncs == [1] * 30 + [0] * 2
        assert setting.feed.counters.connections == 1
