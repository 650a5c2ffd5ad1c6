"""One simulated market at several depths at once, and its trades."""

import json
import os
from collections import Counter, defaultdict
from dataclasses import replace
from decimal import Decimal
from itertools import islice, pairwise

import pytest

from lob.bybit import BybitDecoder
from lob.errors import InputError
from lob.market import MarketConfiguration, SimulatedMarket, shared_markets
from lob.market_flow import Flow
from lob.messages import Trades

COUNT = 4_000 if os.environ.get("NUMBA_DISABLE_JIT") != "1" else 300
ALL_DEPTHS = (1, 50, 200, 1000)

Side = dict[Decimal, str]


def follow(book: tuple[Side, Side], message: dict) -> None:
    """Bybit's rules, in dictionaries."""
    if message["type"] == "snapshot":
        for side in book:
            side.clear()
    for side, levels in zip(book, (message["data"]["b"], message["data"]["a"]), strict=True):
        for price, size in levels:
            side[Decimal(price)] = size
            if size == "0":
                del side[Decimal(price)]


def test_every_depth_tells_of_the_same_book_at_its_own_pace() -> None:
    market = SimulatedMarket(MarketConfiguration(seed=3), depths=ALL_DEPTHS)
    assert market.topics == tuple(f"orderbook.{depth}.BTCUSDT" for depth in ALL_DEPTHS)
    books: dict[int, tuple[Side, Side]] = {depth: ({}, {}) for depth in ALL_DEPTHS}
    numbers: dict[int, int] = {}
    seen: dict[int, dict[int, list[list[tuple[Decimal, str]]]]] = {}  # by event, then by depth
    messages = list(islice(market.messages(), COUNT))
    assert all(before.sent_us <= later.sent_us for before, later in pairwise(messages))
    for message in messages:
        content = json.loads(message.frame)
        assert content["topic"] == message.topic
        depth = int(message.topic.split(".")[1])
        assert content["data"]["u"] == numbers.get(depth, content["data"]["u"] - 1) + 1
        assert (content["type"] == "snapshot") == (depth == 1 or depth not in numbers)
        numbers[depth] = content["data"]["u"]
        follow(books[depth], content)
        sides = [sorted(side.items(), reverse=i == 0) for i, side in enumerate(books[depth])]
        assert [len(side) for side in sides] == [depth, depth]
        seen.setdefault(content["data"]["seq"], {})[depth] = sides
    met: Counter[tuple[int, int]] = Counter()
    for told in seen.values():
        for narrow, wide in pairwise(sorted(told)):
            met[narrow, wide] += 1
            assert [side[:narrow] for side in told[wide]] == told[narrow]
    assert set(met) >= set(pairwise(ALL_DEPTHS))  # each pair met at one event at least
    counts = Counter(message.topic.split(".")[1] for message in messages)
    assert counts["50"] > 4 * counts["200"] > 6 * counts["1000"]


def test_the_trades_of_a_market_explain_all_that_its_book_lost() -> None:
    """Without cancels a level gets smaller by trades alone; orders may hide some of it."""
    configuration = MarketConfiguration(seed=4, flow=Flow(cancel_rate=1e-9))
    market = SimulatedMarket(configuration, depths=(50,), trades=True)
    assert market.topics[-1] == "publicTrade.BTCUSDT"
    traded: dict[tuple[str, Decimal], Decimal] = defaultdict(Decimal)  # since the last message of the book
    waiting: list[tuple[int, str, Decimal, Decimal]] = []
    book: tuple[Side, Side] = ({}, {})
    told_ms, last_price, exact, explained = 0, Decimal(0), 0, 0
    directions, identifiers = set(), []
    contents = [json.loads(message.frame) for message in islice(market.messages(), COUNT)]
    for content in contents:
        if content["topic"].startswith("publicTrade"):
            assert list(content) == ["topic", "type", "ts", "data"]
            for trade in content["data"]:
                assert told_ms <= trade["T"] <= content["ts"]
                told_ms, price = trade["T"], Decimal(trade["p"])
                waiting.append((trade["seq"], trade["S"], price, Decimal(trade["v"])))
                if last_price:
                    assert (price == last_price) == trade["L"].startswith("Zero")
                    assert (price > last_price) == (trade["L"] == "PlusTick")
                last_price = price
                directions.add(trade["L"])
                identifiers.append(trade["i"])
    for content in contents:
        if content["topic"].startswith("publicTrade"):
            continue
        before = [dict(side) for side in book]
        follow(book, content)
        traded.clear()
        while waiting and waiting[0][0] <= content["data"]["seq"]:
            _, taker, price, size = waiting.pop(0)
            traded[taker, price] += size
        for taker, old, new in (("Sell", before[0], book[0]), ("Buy", before[1], book[1])):
            touch = (min if taker == "Buy" else max)(old, default=Decimal(0))
            for level, held in old.items():
                lost = Decimal(held) - Decimal(new.get(level, "0"))
                if lost > 0 and abs(level - touch) < 2:  # further away levels come into reach and leave it
                    assert lost <= traded[taker, level]
                    explained += 1
                    exact += lost == traded[taker, level]
    assert explained > COUNT // 30
    assert exact > explained // 2
    assert directions == {"PlusTick", "ZeroPlusTick", "MinusTick", "ZeroMinusTick"}
    assert len(set(identifiers)) == len(identifiers)


def test_publishing_the_trades_changes_nothing_else() -> None:
    configuration = MarketConfiguration(seed=5)
    with_trades = SimulatedMarket(configuration, depths=(50, 200), trades=True).messages()
    without = SimulatedMarket(configuration, depths=(50, 200)).messages()
    books = (message for message in with_trades if not message.topic.startswith("publicTrade"))
    assert list(islice(books, COUNT // 4)) == list(islice(without, COUNT // 4))


def test_one_level_without_a_change_is_sent_again_after_three_seconds_under_its_number() -> None:
    quiet = Flow(limit_rate=0.02, cancel_rate=0.02, market_rate=0.02, metaorder_every_s=1e9)
    market = SimulatedMarket(MarketConfiguration(seed=1, flow=quiet), depths=(1, 50))
    contents = [json.loads(message.frame) for message in islice(market.messages(), 60)]
    one_level = [content for content in contents if content["topic"] == "orderbook.1.BTCUSDT"]
    assert all(content["type"] == "snapshot" for content in one_level)
    again = 0
    for before, later in pairwise(one_level):
        waited_ms = later["ts"] - before["ts"]
        if later["data"]["u"] == before["data"]["u"]:
            assert later["data"] == before["data"]
            assert later["cts"] == before["cts"]
            assert 2_990 <= waited_ms <= 3_010
            again += 1
        else:
            assert later["data"]["u"] == before["data"]["u"] + 1
            assert waited_ms <= 3_010
    assert again > 10
    deltas = [content for content in contents if content["topic"] == "orderbook.50.BTCUSDT"][1:]
    assert all(content["data"]["b"] or content["data"]["a"] for content in deltas)  # these wait for a change


def test_our_decoder_knows_the_trades() -> None:
    market = SimulatedMarket(trades=True)
    frame = next(m.frame for m in market.messages() if m.topic.startswith("publicTrade"))
    message = BybitDecoder().decode(frame)
    assert isinstance(message, Trades)
    assert message.topic == "publicTrade.BTCUSDT"
    printed = json.loads(frame)["data"]
    assert [(trade.price, trade.size, trade.trade_id) for trade in message.trades] == [
        (entry["p"], entry["v"], entry["i"]) for entry in printed
    ]


def test_configurations_of_a_symbol_share_a_market() -> None:
    wide = replace(MarketConfiguration(), depth=200)
    ether = MarketConfiguration(symbol="ETHUSDT")
    one, other = shared_markets([MarketConfiguration(), ether, wide], trades=True)
    assert one.topics == ("orderbook.50.BTCUSDT", "orderbook.200.BTCUSDT", "publicTrade.BTCUSDT")
    assert other.topics == ("orderbook.50.ETHUSDT", "publicTrade.ETHUSDT")


def test_markets_that_are_refused() -> None:
    with pytest.raises(InputError, match=r"orderbook\.50\.BTCUSDT came twice"):
        shared_markets([MarketConfiguration(), MarketConfiguration(seed=2)])
    with pytest.raises(InputError, match="BTCUSDT: two markets came"):
        shared_markets([MarketConfiguration(), MarketConfiguration(depth=200, seed=2)])
    with pytest.raises(InputError, match="none came"):
        shared_markets([])
    with pytest.raises(InputError, match=r"depths: \(50, 50\) came"):
        SimulatedMarket(depths=(50, 50))
    with pytest.raises(InputError, match="depth: 25 came"):
        SimulatedMarket(depths=(25,))
