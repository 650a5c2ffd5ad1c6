"""Price grids: exact in both directions, or refused."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lob.errors import InputError
from lob.instrument import MAXIMUM_SCALED_PRICE, Instrument, infer_instrument

TICK_SIZES = ["0.1", "0.10", "0.01", "0.001", "0.0001", "0.5", "0.00000001", "1", "10", "2.5", "1E-7"]


@pytest.mark.parametrize(
    ("tick_size", "mantissa", "decimals"),
    [("0.1", 1, 1), ("0.10", 1, 1), ("0.50", 5, 1), ("10", 10, 0), ("2.5", 25, 1), ("1E-7", 1, 7)],
)
def test_tick_size_is_a_fraction(tick_size: str, mantissa: int, decimals: int) -> None:
    instrument = Instrument(symbol="X", tick_size=tick_size)
    assert (instrument.tick_mantissa, instrument.tick_decimals) == (mantissa, decimals)


@given(st.sampled_from(TICK_SIZES), st.integers(1, 10**9), st.integers(0, 4))
def test_printed_prices_become_ticks_and_back(tick_size: str, ticks: int, padding: int) -> None:
    instrument = Instrument(symbol="X", tick_size=tick_size)
    price = ticks * Decimal(tick_size)
    printed = format(price, "f")
    if padding:
        printed += ("" if "." in printed else ".") + "0" * padding
    assert instrument.ticks(printed) == ticks
    assert instrument.price(ticks) == float(printed)


@given(st.sampled_from(TICK_SIZES), st.integers(1, 10**12), st.integers(1, 10**12))
def test_mid_is_correctly_rounded(tick_size: str, bid: int, ask: int) -> None:
    instrument = Instrument(symbol="X", tick_size=tick_size)
    assert instrument.mid(bid, ask) == float((bid + ask) * Decimal(tick_size) / 2)


@given(st.sampled_from(["0.1", "0.01", "0.5", "2.5"]), st.integers(1, 10**9), st.integers(1, 8))
def test_prices_off_the_grid_are_refused(tick_size: str, ticks: int, ninths: int) -> None:
    instrument = Instrument(symbol="X", tick_size=tick_size)
    off = (ticks + Decimal(ninths) / 10) * Decimal(tick_size)
    with pytest.raises(InputError, match=r"price: '.*' is off the grid of X"):
        instrument.ticks(str(off))


@pytest.mark.parametrize("price", ["", "0", "-1", "abc", "NaN", "Infinity", "1e400", " ", "1,5", "0x1"])
def test_no_prices_are_refused(price: str) -> None:
    with pytest.raises(InputError, match="price: "):
        Instrument(symbol="X", tick_size="0.1").ticks(price)


def test_prices_beyond_exact_arithmetic_are_refused() -> None:
    instrument = Instrument(symbol="X", tick_size="1")
    assert instrument.ticks(str(MAXIMUM_SCALED_PRICE - 1)) == MAXIMUM_SCALED_PRICE - 1
    with pytest.raises(InputError, match="below 2\\^53"):
        instrument.ticks(str(MAXIMUM_SCALED_PRICE))


@pytest.mark.parametrize("tick_size", ["0", "-0.1", "", "one", "NaN", "1e-19", "9007199254740992"])
def test_bad_tick_sizes_are_refused(tick_size: str) -> None:
    with pytest.raises(InputError, match="tick_size: "):
        Instrument(symbol="X", tick_size=tick_size)


def test_symbol_is_needed() -> None:
    with pytest.raises(InputError, match="symbol: came empty"):
        Instrument(symbol="", tick_size="1")


@pytest.mark.parametrize(
    ("prices", "tick_size"),
    [
        (["61837.63000000", "61837.62000000", "61840.00000000"], "0.01"),
        (["1.2140", "1.216", "1.2"], "0.002"),
        (["100", "150", "1000"], "50"),
        (["0.5"], "0.5"),
    ],
)
def test_grid_is_inferred_from_prices(prices: list[str], tick_size: str) -> None:
    assert infer_instrument("X", prices) == Instrument(symbol="X", tick_size=tick_size)


@given(st.lists(st.decimals("0.0001", "99999", places=4), min_size=1, max_size=20))
def test_inferred_grid_holds_its_prices(prices: list[Decimal]) -> None:
    instrument = infer_instrument("X", map(str, prices))
    for price in prices:
        assert instrument.price(instrument.ticks(str(price))) == float(price)


def test_no_grid_from_no_prices() -> None:
    with pytest.raises(InputError, match="prices: none came to infer the tick size of X from"):
        infer_instrument("X", [])
