"""The simulated market: a seeded source of valid Bybit v5 order-book frames. A simulation, no real market.

It stands in for an exchange where none can be reached: in the demo, in tests and in benchmarks. Its near
future is partly predictable by construction (see `lob.market_flow`), so a score reached on it says nothing
about real markets.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple

import numpy as np

from lob.bybit import book_topic
from lob.captures.frames import CapturedFrame, InstrumentHint
from lob.errors import InputError
from lob.instrument import Instrument
from lob.market_flow import (
    ASK,
    BID,
    EVENTS,
    HIDDEN_SLOTS,
    TOUCH_SLOTS,
    TRADE_COLUMNS,
    TRADES,
    Flow,
    Integers,
    State,
    advance_until,
    open_book,
)
from lob.market_print import BookPrinter, GridText, TradePrinter
from lob.market_publication import (
    ASKS_END,
    MESSAGE_COLUMNS,
    SENT_US,
    TRADE_FEED,
    Batch,
    Feeds,
    run,
    top_levels,
)
from lob.messages import WHOLE_BOOK

INTERVAL_MS = {1: 10, 50: 20, 200: 100, 500: 100, 1000: 200, WHOLE_BOOK: 200}
"""How often Bybit sends each depth (v5 documentation, "Websocket Stream, Public": "Orderbook" and "Full
Orderbook")."""

WHOLE_BOOK_LEVELS = 2_000
"""Levels a side that the simulated market has."""

BURN_IN_US = 10_000_000
"""What passes before the first message, so that the market does not start from its artificial first book."""

BATCH_MESSAGES = 64
BATCH_TRADES = 4_096


@dataclass(frozen=True, kw_only=True)
class MarketConfiguration:
    """One simulated instrument; prices and sizes are texts, as an exchange states them.

    Raises InputError where a field is outside what is allowed.
    """

    symbol: str = "BTCUSDT"
    depth: int = 50
    seed: int = 0
    tick_size: str = "0.10"
    lot_size: str = "0.001"
    first_price: str = "60000.00"
    start_ms: int = 1_700_000_000_000
    """Unix time of the first message."""
    flow: Flow = field(default_factory=Flow)

    def __post_init__(self) -> None:
        if self.depth not in INTERVAL_MS:
            allowed = ", ".join(str(depth) for depth in INTERVAL_MS if depth != WHOLE_BOOK) + " and full"
            raise InputError(f"depth: {self.depth} came, which Bybit does not send; allowed: {allowed}")
        if self.seed < 0:
            raise InputError(f"seed: {self.seed} came; allowed: 0 and above")
        Instrument(symbol=self.symbol, tick_size=self.lot_size)
        first_ticks = self.instrument.ticks(self.first_price)
        least_ticks = int(2 * self.flow.anchor_ticks)
        if first_ticks < least_ticks:
            raise InputError(
                f"first_price: {self.first_price} is {first_ticks} ticks; "
                f"allowed: {least_ticks} ticks and above, so that the price stays positive"
            )

    @property
    def instrument(self) -> Instrument:
        """The instrument traded."""
        return Instrument(symbol=self.symbol, tick_size=self.tick_size)

    @property
    def hint(self) -> InstrumentHint:
        """The instrument as a recording's header names it."""
        return InstrumentHint(symbol=self.symbol, tick_size=self.tick_size)

    @property
    def source(self) -> str:
        """What a recording's header says of where its frames come from."""
        return f"simulated market, seed {self.seed}"


class MarketMessage(NamedTuple):
    """One message of a market; times in us since its start: of the last event in it, and of its sending."""

    topic: str
    event_us: int
    sent_us: int
    frame: bytes


class SimulatedMarket:
    """A market that can be played from its start any number of times, the same each time for the same seed.

    It publishes one book at each of `depths` (None given: at the configuration's), each with its own numbers
    `u` and at its own interval, and its trades where `trades` says so. The first frame of a depth is a
    snapshot, then come deltas, `u` one higher each time, with `depth` levels a side at most after every one:
    a level that comes among the first `depth` because another left is sent as an insert, one that is pushed
    out of them as a delete. At depth 1 all are snapshots, as Bybit does, one without a change after 3 s
    under the same `u` among them. The whole book begins with a snapshot too, which Bybit does not send.
    Which market it is depends on symbol, seed and depths, not on whether its trades are published.
    Raises InputError where a depth is none of Bybit's or comes twice.
    """

    def __init__(
        self,
        configuration: MarketConfiguration | None = None,
        *,
        depths: Sequence[int] | None = None,
        trades: bool = False,
    ) -> None:
        self.configuration = configuration if configuration is not None else MarketConfiguration()
        self.depths = (self.configuration.depth,) if depths is None else tuple(depths)
        self.trades = trades
        for depth in self.depths:
            replace(self.configuration, depth=depth)
        if len(set(self.depths)) != len(self.depths) or not self.depths:
            raise InputError(f"depths: {self.depths} came; allowed: one or more, each once")

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics it publishes, as the exchange spells them."""
        symbol = self.configuration.symbol
        books = tuple(book_topic(depth, symbol) for depth in self.depths)
        return (*books, f"publicTrade.{symbol}") if self.trades else books

    def generate(self, count: int | None = None) -> Iterator[tuple[int, bytes]]:
        """The first `count` frames (None: without end), each with its matching-engine time in ms (`cts`)."""
        start_ms = self.configuration.start_ms
        for message in islice(self.messages(), count):
            yield start_ms + message.event_us // 1000, message.frame

    def frames(self, count: int | None = None) -> Iterator[CapturedFrame]:
        """The same frames, received the instant that the gateway sent them."""
        start_ns = self.configuration.start_ms * 1_000_000
        for message in islice(self.messages(), count):
            yield CapturedFrame(start_ns + message.sent_us * 1000, message.frame)

    def messages(self) -> Iterator[MarketMessage]:
        """The same frames with their topics, in the order of their sending, without end."""
        configuration = self.configuration
        grid = GridText(configuration.tick_size, configuration.lot_size)
        books = [
            BookPrinter(configuration.symbol, depth, configuration.start_ms, grid) for depth in self.depths
        ]
        trades = TradePrinter(configuration.symbol, configuration.start_ms, grid)
        market = _Run(configuration, self.depths, trades=self.trades)
        for feed, book in enumerate(books):
            first = book.frame("snapshot", 0, 0, market.events, *market.top(feed))
            yield MarketMessage(book.topic, 0, 0, first)
        while True:
            rows, changes, traded = market.next_batch()
            for feed, begin, bids_end, asks_end, event_us, sent_us, events, repeats in rows:
                if feed == TRADE_FEED:
                    frame = trades.frame(sent_us, traded[begin:asks_end])
                    yield MarketMessage(trades.topic, event_us, sent_us, frame)
                    continue
                book = books[feed]
                kind = "snapshot" if self.depths[feed] == 1 else "delta"
                levels = (changes[begin:bids_end], changes[bids_end:asks_end])
                if repeats:
                    frame = book.repeated(kind, sent_us, *levels)
                else:
                    frame = book.frame(kind, event_us, sent_us, events, *levels)
                yield MarketMessage(book.topic, event_us, sent_us, frame)


def shared_markets(
    configurations: Sequence[MarketConfiguration], *, trades: bool = False
) -> tuple[SimulatedMarket, ...]:
    """One market a symbol, which publishes at all the depths that the configurations of this symbol name.

    Raises InputError where a symbol and depth come twice, where two configurations of a symbol differ in
    more than the depth, and where there are none.
    """
    first: dict[str, MarketConfiguration] = {}
    depths: dict[str, list[int]] = {}
    for configuration in configurations:
        symbol, depth = configuration.symbol, configuration.depth
        if depth in depths.setdefault(symbol, []):
            raise InputError(f"symbol, depth: {book_topic(depth, symbol)} came twice; allowed: once")
        known = first.setdefault(symbol, configuration)
        if replace(known, depth=depth) != configuration:
            raise InputError(f"{symbol}: two markets came; allowed: one market a symbol, at several depths")
        depths[symbol].append(depth)
    if not first:
        raise InputError("symbol: none came; allowed: one or more")
    return tuple(
        SimulatedMarket(configuration, depths=depths[symbol], trades=trades)
        for symbol, configuration in first.items()
    )


class _Run:
    """One run of the market: its arrays, behind calls."""

    def __init__(self, configuration: MarketConfiguration, depths: Sequence[int], *, trades: bool) -> None:
        intervals_us = np.array([INTERVAL_MS[depth] * 1000 for depth in depths], np.int64)
        depths = [WHOLE_BOOK_LEVELS if depth == WHOLE_BOOK else depth for depth in depths]
        count, widest = len(depths), max(depths)
        reach = max(100, 4 * widest)
        self._rng = np.random.default_rng([configuration.seed, *configuration.symbol.encode()])
        self._step_us = int(np.gcd.reduce(intervals_us))
        self._state = State(
            flow=configuration.flow,
            first_bid=configuration.instrument.ticks(configuration.first_price),
            reach=reach,
            lots=np.zeros(1 << (4 * reach).bit_length(), np.int64),
            touch=np.zeros(TOUCH_SLOTS, np.int64),
            hidden=np.zeros(HIDDEN_SLOTS, np.float64),
            trades=np.zeros((BATCH_TRADES if trades else 0, TRADE_COLUMNS), np.int64),
        )
        self._feeds = Feeds(
            depths=np.array(depths, np.int64),
            intervals_us=intervals_us,
            ticks=np.zeros((count, 2, widest), np.int64),
            lots=np.zeros((count, 2, widest), np.int64),
            counts=np.zeros((count, 2), np.int64),
            sent_us=np.zeros(count, np.int64),
        )
        changes = max(BATCH_MESSAGES * 4 * min(depths), 4 * 4 * sum(depths))
        self._batch = Batch(
            np.zeros(changes, np.int64),
            np.zeros(changes, np.int64),
            np.zeros((BATCH_MESSAGES, MESSAGE_COLUMNS), np.int64),
        )
        open_book(self._rng, self._state)
        self._elapsed_us = advance_until(self._rng, self._state, -BURN_IN_US, 0, self._step_us)
        for feed, depth in enumerate(depths):
            for side in (BID, ASK):
                ticks, lots = self._feeds.ticks[feed, side, :depth], self._feeds.lots[feed, side, :depth]
                self._feeds.counts[feed, side] = top_levels(self._state, side, ticks, lots)

    @property
    def events(self) -> int:
        """How many orders, cancels and trades there have been."""
        return int(self._state.touch[EVENTS])

    def top(self, feed: int) -> list[list[tuple[int, int]]]:
        """Bids and asks that the feed's last message left, best first."""
        sides = []
        for side in (BID, ASK):
            count = self._feeds.counts[feed, side]
            sides.append(_pairs(self._feeds.ticks[feed, side, :count], self._feeds.lots[feed, side, :count]))
        return sides

    def next_batch(self) -> tuple[list[list[int]], list[tuple[int, int]], list[list[int]]]:
        """Simulate on: the messages in the order of sending, the changes and the trades they refer to."""
        count, self._elapsed_us = run(
            self._rng, self._state, self._feeds, self._batch, self._elapsed_us, self._step_us
        )
        messages = self._batch.messages[:count]
        messages = messages[np.argsort(messages[:, SENT_US], kind="stable")]
        end = int(messages[:, ASKS_END].max(initial=0))
        trades = int(self._state.touch[TRADES])
        changes = _pairs(self._batch.ticks[:end], self._batch.lots[:end])
        return messages.tolist(), changes, self._state.trades[:trades].tolist()


def _pairs(ticks: Integers, lots: Integers) -> list[tuple[int, int]]:
    return list(zip(ticks.tolist(), lots.tolist(), strict=True))
