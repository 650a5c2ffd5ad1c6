"""A traded instrument's price grid: exact conversion between printed prices and integer ticks."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from lob.errors import InputError

MAXIMUM_SCALED_PRICE = 2**53
"""Price times 10^decimals stays below this, so that float64 holds every price and tick count exactly."""

MAXIMUM_TICK_DECIMALS = 18
"""Most decimal places a tick size may have (ten to this power still fits an int64)."""


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """A symbol and its tick size, `tick_mantissa / 10 ** tick_decimals`.

    Raises InputError where the tick size is not a positive plain decimal number, or the symbol is empty.
    """

    symbol: str
    tick_size: str
    tick_mantissa: int = field(init=False, repr=False)
    tick_decimals: int = field(init=False, repr=False)
    _scale: int = field(init=False, repr=False)  # 10 ** tick_decimals

    def __post_init__(self) -> None:
        if not self.symbol:
            raise InputError("symbol: came empty; allowed: the exchange's name of an instrument")
        mantissa, decimals = _mantissa_and_decimals(self.tick_size, "tick_size")
        if decimals > MAXIMUM_TICK_DECIMALS or mantissa >= MAXIMUM_SCALED_PRICE:
            raise InputError(
                f"tick_size: {self.tick_size!r} is out of range; "
                f"allowed: at most {MAXIMUM_TICK_DECIMALS} decimals and below 2^53 units of the last one"
            )
        object.__setattr__(self, "tick_mantissa", mantissa)
        object.__setattr__(self, "tick_decimals", decimals)
        object.__setattr__(self, "_scale", 10**decimals)

    def ticks(self, price: str) -> int:
        """The whole number of ticks in a printed price.

        Raises InputError where `price` is not a positive decimal number on the tick grid.
        """
        mantissa, decimals = _mantissa_and_decimals(price, "price")
        if decimals <= self.tick_decimals:
            scaled = mantissa * self._scale // 10**decimals
            if scaled % self.tick_mantissa == 0 and scaled < MAXIMUM_SCALED_PRICE:
                return int(scaled // self.tick_mantissa)
        raise InputError(
            f"price: {price!r} is off the grid of {self.symbol}; "
            f"allowed: a multiple of the tick size {self.tick_size}, below 2^53 units of its last decimal"
        )

    def price(self, ticks: int) -> float:
        """The price of `ticks`, the float64 nearest to it: equal to `float` of the printed price."""
        return ticks * self.tick_mantissa / self._scale

    def mid(self, bid_ticks: int, ask_ticks: int) -> float:
        """The price half way between two prices in ticks, correctly rounded."""
        return (bid_ticks + ask_ticks) * self.tick_mantissa / (2 * self._scale)


def infer_instrument(symbol: str, prices: Iterable[str]) -> Instrument:
    """The coarsest grid that holds all `prices`, for a capture that does not state its tick size.

    The more prices it is given the surer the answer; the true tick divides it. Raises InputError where there
    is no price, or one is not a positive decimal number.
    """
    pairs = [_mantissa_and_decimals(price, "price") for price in prices]
    if not pairs:
        raise InputError(f"prices: none came to infer the tick size of {symbol} from; allowed: one or more")
    decimals = max(places for _, places in pairs)
    mantissa = math.gcd(*(number * 10 ** (decimals - places) for number, places in pairs))
    return Instrument(symbol=symbol, tick_size=format(Decimal(mantissa).scaleb(-decimals), "f"))


def _mantissa_and_decimals(text: str, name: str) -> tuple[int, int]:
    """The number in `text` as (mantissa, decimals) in lowest terms of ten; decimals is not below 0."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal(0)
    if not number.is_finite() or number <= 0 or abs(number.adjusted()) > 30:
        raise InputError(f"{name}: {text!r} is no price; allowed: a positive decimal number as text")
    _, digits, exponent = number.as_tuple()
    mantissa = int("".join(map(str, digits)))
    decimals = -int(exponent)
    while decimals > 0 and mantissa % 10 == 0:
        mantissa, decimals = mantissa // 10, decimals - 1
    if decimals < 0:
        mantissa, decimals = mantissa * 10**-decimals, 0
    return mantissa, decimals
