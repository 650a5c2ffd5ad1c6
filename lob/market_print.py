"""Printing the simulated market's messages in Bybit's words: the order book's topics and `publicTrade`.

Source: Bybit API documentation v5, websocket stream, "Orderbook" and "Trade".
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal

from lob.bybit import book_topic

KEPT_PRICES = 50_000
"""Printed prices remembered before they are forgotten: a bound on memory."""

FIRST_UPDATE_ID = 1_000_000
FIRST_SEQUENCE = 10_000_000_000
FIRST_TRADE_ID = 2_290_000_000_000_000_000

Levels = Iterable[tuple[int, int]]
"""Ticks and lots, best first."""

Trades = Iterable[Sequence[int]]
"""Time in us since the start, side of the taker (0 buys), tick, lots and event of each."""


class GridText:
    """Prices and sizes of one instrument as the exchange prints them, from ticks and lots."""

    def __init__(self, tick_size: str, lot_size: str) -> None:
        self._tick, self._lot = Decimal(tick_size), Decimal(lot_size)
        self._prices: dict[int, str] = {}

    def price(self, ticks: int) -> str:
        """The price of so many ticks."""
        text = self._prices.get(ticks)
        if text is None:
            if len(self._prices) >= KEPT_PRICES:
                self._prices.clear()
            text = self._prices[ticks] = f"{ticks * self._tick:f}"
        return text

    def size(self, lots: int) -> str:
        """The size of so many lots."""
        return f"{lots * self._lot:f}" if lots else "0"

    def levels(self, levels: Levels) -> str:
        """The inside of the JSON array of the levels of one side."""
        return ",".join([f'["{self.price(ticks)}","{self.size(lots)}"]' for ticks, lots in levels])


class BookPrinter:
    """Prints the messages of one order-book topic, numbering them."""

    def __init__(self, symbol: str, depth: int, start_ms: int, grid: GridText) -> None:
        self.topic = book_topic(depth, symbol)
        self._symbol = symbol
        self._start_ms = start_ms
        self._grid = grid
        self._update_id = FIRST_UPDATE_ID
        self._exchange_ms = start_ms
        self._sequence = FIRST_SEQUENCE

    def frame(self, kind: str, event_us: int, sent_us: int, events: int, bids: Levels, asks: Levels) -> bytes:
        """The next message; times in us since the start."""
        self._update_id += 1
        self._exchange_ms = self._start_ms + event_us // 1000
        self._sequence = FIRST_SEQUENCE + events
        return self.repeated(kind, sent_us, bids, asks)

    def repeated(self, kind: str, sent_us: int, bids: Levels, asks: Levels) -> bytes:
        """The last message once more, under its own number, sent at another time."""
        return (
            f'{{"topic":"{self.topic}","type":"{kind}","ts":{self._start_ms + sent_us // 1000},'
            f'"data":{{"s":"{self._symbol}","b":[{self._grid.levels(bids)}],"a":[{self._grid.levels(asks)}],'
            f'"u":{self._update_id},"seq":{self._sequence}}},'
            f'"cts":{self._exchange_ms}}}'
        ).encode()


class TradePrinter:
    """Prints the messages of one symbol's `publicTrade` topic."""

    def __init__(self, symbol: str, start_ms: int, grid: GridText) -> None:
        self.topic = f"publicTrade.{symbol}"
        self._symbol = symbol
        self._start_ms = start_ms
        self._grid = grid
        self._trade_id = FIRST_TRADE_ID
        self._tick = 0
        self._direction = "PlusTick"

    def frame(self, sent_us: int, trades: Trades) -> bytes:
        """One message with `trades` in their order."""
        entries = ",".join(self._entry(*trade) for trade in trades)
        ts = self._start_ms + sent_us // 1000
        return f'{{"topic":"{self.topic}","type":"snapshot","ts":{ts},"data":[{entries}]}}'.encode()

    def _entry(self, event_us: int, side: int, tick: int, lots: int, event: int) -> str:
        if tick != self._tick:
            self._direction = "PlusTick" if tick > self._tick else "MinusTick"
        elif not self._direction.startswith("Zero"):
            self._direction = f"Zero{self._direction}"
        self._tick = tick
        self._trade_id += 1
        taker = "Sell" if side else "Buy"
        return (
            f'{{"T":{self._start_ms + event_us // 1000},"s":"{self._symbol}","S":"{taker}",'
            f'"v":"{self._grid.size(lots)}","p":"{self._grid.price(tick)}","L":"{self._direction}",'
            f'"i":"{self._trade_id}","BT":false,"RPI":false,"seq":{FIRST_SEQUENCE + event}}}'
        )
