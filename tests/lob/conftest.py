"""Fixtures of the order-book tests: Bybit frames to order, and a book kept the plain way."""

import json
from collections.abc import Callable, Sequence

import pytest
from hypothesis import settings

# The first example of a test may compile a kernel.
settings.register_profile("compiling", deadline=None)
settings.load_profile("compiling")

Levels = Sequence[tuple[str, str]]


class DictionaryBook:
    """A book as two dictionaries, price to size, both as floats of the text: the twin of the jitted one."""

    def __init__(self) -> None:
        self.bids: dict[float, float] = {}
        self.asks: dict[float, float] = {}

    def replace(self, bids: Levels, asks: Levels) -> None:
        self.bids.clear()
        self.asks.clear()
        self.change(bids, asks)

    def change(self, bids: Levels, asks: Levels) -> None:
        for side, levels in ((self.bids, bids), (self.asks, asks)):
            for price, size in levels:
                if float(size) == 0.0:
                    side.pop(float(price), None)
                else:
                    side[float(price)] = float(size)

    def best_first(self, levels: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        return sorted(self.bids.items(), reverse=True)[:levels], sorted(self.asks.items())[:levels]


@pytest.fixture(scope="session")
def make_dictionary_book() -> Callable[[], DictionaryBook]:
    """Makes an empty dictionary book."""
    return DictionaryBook


@pytest.fixture(scope="session")
def bybit_frame() -> Callable[..., bytes]:
    """Makes a frame of Bybit's order-book topic."""

    def make(
        update_id: int,
        bids: Levels = (),
        asks: Levels = (),
        *,
        snapshot: bool = False,
        symbol: str = "BTCUSDT",
        depth: int = 50,
    ) -> bytes:
        frame = {
            "topic": f"orderbook.{depth}.{symbol}",
            "ts": 1_700_000_000_005 + update_id,
            "type": "snapshot" if snapshot else "delta",
            "data": {"s": symbol, "b": bids, "a": asks, "u": update_id, "seq": 10 * update_id},
            "cts": 1_700_000_000_000 + update_id,
        }
        return json.dumps(frame, separators=(",", ":")).encode()

    return make
