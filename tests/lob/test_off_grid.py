"""Off the grid or otherwise unreadable: what a refused book message is told apart by."""

import pytest

from lob.instrument import Instrument
from lob.messages import BookUpdate, Malformed
from lob.off_grid import off_grid_price, off_grid_text


def update(bids: bytes, asks: bytes = b"[]") -> BookUpdate:
    return BookUpdate("BTCUSDT", True, 1, 1, -1, 1, 1, 1, bids, asks)


@pytest.mark.parametrize(
    ("tick_size", "bids", "asks", "expected"),
    [
        ("0.10", b'[["100.1","1"],["100","1"]]', b"[]", ""),
        ("0.10", b'[["100.1","1"],["100.05","1"]]', b"[]", "100.05"),
        ("0.10", b"[]", b'[["100.10","1"],["100.11","0"]]', "100.11"),
        ("0.5", b'[["100.50","1"],["100.7","1"]]', b"[]", "100.7"),
        ("0.000000000000000001", b'[["0.0000000000000000005","1"]]', b"[]", "0.0000000000000000005"),
        ("0.10", b'[["0","1"]]', b"[]", ""),  # no price, and a multiple of everything
        ("0.10", b'[["-100.05","1"],["1e-5","1"],["nan","1"],["","1"],[]]', b"[]", ""),
        ("0.10", b'[["100.0' + b"1" * 60 + b'","1"]]', b"[]", ""),  # longer than a number may be
        ("0.10", b'[["100.05"', b'[["100.15","1"]]', "100.15"),  # a side that is no JSON hides no other
        ("0.10", b"[" * 100_000, b"[]", ""),
    ],
)
def test_the_first_price_off_the_grid(tick_size: str, bids: bytes, asks: bytes, expected: str) -> None:
    instrument = Instrument(symbol="BTCUSDT", tick_size=tick_size)
    assert off_grid_price(update(bids, asks), instrument) == expected


def test_what_is_no_book_message_has_no_price_off_the_grid() -> None:
    instrument = Instrument(symbol="BTCUSDT", tick_size="0.10")
    assert off_grid_price(None, instrument) == ""
    assert off_grid_price(Malformed("no JSON"), instrument) == ""


def test_it_is_said_with_the_grid() -> None:
    instrument = Instrument(symbol="BTCUSDT", tick_size="0.10")
    assert off_grid_text("100.05", instrument) == "price 100.05 is off the grid of tick size 0.10"
    assert off_grid_text("", instrument) == ""
