"""The simulated market: a seeded source of valid Bybit v5 order-book frames. A simulation, no real market.

It stands in for an exchange where none can be reached: in the demo, in tests and in benchmarks. Its near
future is partly predictable by construction (see `lob.market_flow`), so a score reached on it says nothing
about real markets.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice

import numpy as np

from lob.captures.frames import CapturedFrame, InstrumentHint
from lob.errors import InputError
from lob.instrument import Instrument
from lob.market_flow import ASK, BID, EVENTS, HIDDEN_SLOTS, TOUCH_SLOTS, Flow, State, advance, open_book
from lob.market_publication import Batch, Published, run, top_levels

INTERVAL_MS = {1: 10, 50: 20, 200: 100, 500: 100, 1000: 200}
"""How often Bybit sends each depth (v5 documentation, "Websocket Stream, Public, Orderbook")."""

BURN_IN_US = 10_000_000
"""What passes before the first message, so that the market does not start from its artificial first book."""

FIRST_UPDATE_ID = 1_000_000
FIRST_SEQUENCE = 10_000_000_000
BATCH_MESSAGES = 64
KEPT_PRICES = 50_000
"""Printed prices remembered before they are forgotten: a bound on memory."""

Levels = Iterable[tuple[int, int]]
"""Ticks and lots, best first."""


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
            allowed = ", ".join(map(str, INTERVAL_MS))
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


class SimulatedMarket:
    """A market that can be played from its start any number of times, the same each time for the same seed.

    The first frame is a snapshot, then come deltas (at depth 1 snapshots alone, as Bybit does), `u` one
    higher each time, with `depth` levels a side at most after every one: a level that comes among the first
    `depth` because another left is sent as an insert, one that is pushed out of them as a delete.
    """

    def __init__(self, configuration: MarketConfiguration | None = None) -> None:
        self.configuration = configuration if configuration is not None else MarketConfiguration()

    def generate(self, count: int | None = None) -> Iterator[tuple[int, bytes]]:
        """The first `count` frames (None: without end), each with its matching-engine time in ms (`cts`)."""
        start_ms = self.configuration.start_ms
        for event_us, _, frame in islice(self._messages(), count):
            yield start_ms + event_us // 1000, frame

    def frames(self, count: int | None = None) -> Iterator[CapturedFrame]:
        """The same frames, received the instant that the gateway sent them."""
        start_ns = self.configuration.start_ms * 1_000_000
        for _, sent_us, frame in islice(self._messages(), count):
            yield CapturedFrame(start_ns + sent_us * 1000, frame)

    def _messages(self) -> Iterator[tuple[int, int, bytes]]:
        """Time of the last event and of sending, in us since the start, and the frame."""
        depth = self.configuration.depth
        printer = _Printer(self.configuration)
        market = _Run(self.configuration)
        yield 0, 0, printer.frame("snapshot", 0, 0, market.events, market.top(BID), market.top(ASK))
        batch = _batch(1 if depth == 1 else BATCH_MESSAGES, depth)
        while True:
            market.fill(batch)
            end = batch.messages[-1, 1]
            changes = list(zip(batch.ticks[:end].tolist(), batch.lots[:end].tolist(), strict=True))
            begin = 0
            for bids_end, asks_end, event_us, sent_us, events in batch.messages.tolist():
                if depth == 1:
                    levels = (market.top(BID), market.top(ASK))
                    frame = printer.frame("snapshot", event_us, sent_us, events, *levels)
                else:
                    levels = (changes[begin:bids_end], changes[bids_end:asks_end])
                    frame = printer.frame("delta", event_us, sent_us, events, *levels)
                begin = asks_end
                yield event_us, sent_us, frame


class _Printer:
    """Prints messages in Bybit's words, numbering them."""

    def __init__(self, configuration: MarketConfiguration) -> None:
        self._symbol = configuration.symbol
        self._topic = f"orderbook.{configuration.depth}.{configuration.symbol}"
        self._start_ms = configuration.start_ms
        self._tick = Decimal(configuration.tick_size)
        self._lot = Decimal(configuration.lot_size)
        self._prices: dict[int, str] = {}
        self._update_id = FIRST_UPDATE_ID

    def frame(self, kind: str, event_us: int, sent_us: int, events: int, bids: Levels, asks: Levels) -> bytes:
        """The next message; times in us since the start."""
        self._update_id += 1
        return (
            f'{{"topic":"{self._topic}","type":"{kind}","ts":{self._start_ms + sent_us // 1000},'
            f'"data":{{"s":"{self._symbol}","b":[{self._levels(bids)}],"a":[{self._levels(asks)}],'
            f'"u":{self._update_id},"seq":{FIRST_SEQUENCE + events}}},'
            f'"cts":{self._start_ms + event_us // 1000}}}'
        ).encode()

    def _levels(self, levels: Levels) -> str:
        return ",".join([f'["{self._price(ticks)}","{self._size(lots)}"]' for ticks, lots in levels])

    def _price(self, ticks: int) -> str:
        text = self._prices.get(ticks)
        if text is None:
            if len(self._prices) >= KEPT_PRICES:
                self._prices.clear()
            text = self._prices[ticks] = f"{ticks * self._tick:f}"
        return text

    def _size(self, lots: int) -> str:
        return f"{lots * self._lot:f}" if lots else "0"


class _Run:
    """One run of the market: its arrays, behind calls."""

    def __init__(self, configuration: MarketConfiguration) -> None:
        depth = configuration.depth
        reach = max(100, 4 * depth)
        self._rng = np.random.default_rng([configuration.seed, *configuration.symbol.encode()])
        self._interval_us = INTERVAL_MS[depth] * 1000
        self._elapsed_us = -BURN_IN_US
        self._state = State(
            flow=configuration.flow,
            first_bid=configuration.instrument.ticks(configuration.first_price),
            reach=reach,
            lots=np.zeros(1 << (4 * reach).bit_length(), np.int64),
            touch=np.zeros(TOUCH_SLOTS, np.int64),
            hidden=np.zeros(HIDDEN_SLOTS, np.float64),
        )
        self._published = Published(
            np.zeros((2, depth), np.int64), np.zeros((2, depth), np.int64), np.zeros(2, np.int64)
        )
        open_book(self._rng, self._state)
        while self._elapsed_us < 0:
            advance(self._rng, self._state, self._elapsed_us, self._interval_us)
            self._elapsed_us += self._interval_us
        for side in (BID, ASK):
            ticks, lots = self._published.ticks[side], self._published.lots[side]
            self._published.counts[side] = top_levels(self._state, side, ticks, lots)

    @property
    def events(self) -> int:
        """How many orders, cancels and trades there have been."""
        return int(self._state.touch[EVENTS])

    def top(self, side: int) -> list[tuple[int, int]]:
        """The levels that the last message left, best first."""
        count = self._published.counts[side]
        ticks, lots = self._published.ticks[side, :count], self._published.lots[side, :count]
        return list(zip(ticks.tolist(), lots.tolist(), strict=True))

    def fill(self, batch: Batch) -> None:
        """Simulate until `batch` is full."""
        self._elapsed_us = run(
            self._rng, self._state, self._published, batch, self._elapsed_us, self._interval_us
        )


def _batch(messages: int, depth: int) -> Batch:
    """An empty batch with room for the most changes that so many messages can hold."""
    changes = messages * 4 * depth
    return Batch(np.zeros(changes, np.int64), np.zeros(changes, np.int64), np.zeros((messages, 5), np.int64))
