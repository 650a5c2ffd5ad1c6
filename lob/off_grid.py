"""Was a book message refused because a price in it is on no tick: the sign that the tick size has changed."""

import re
from fractions import Fraction

import msgspec

from lob.decimal_text import MAXIMUM_DIGITS
from lob.instrument import Instrument
from lob.messages import BookUpdate, Message

_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
_LEVELS = msgspec.json.Decoder(list[list[str]])


def off_grid_price(message: Message | None, instrument: Instrument) -> str:
    """The first price of `message` that is a number and no multiple of the tick size, as printed.

    Empty where there is none: a message that was refused all the same has another fault. For messages that
    were refused, not for all: the jitted readers of `lob.decimal_text` say only that they take no level.
    """
    if not isinstance(message, BookUpdate):
        return ""
    tick = Fraction(instrument.tick_mantissa, 10**instrument.tick_decimals)
    for side in (message.bids, message.asks):
        try:
            levels = _LEVELS.decode(side)
        except (ValueError, RecursionError):
            continue
        for price in (level[0] for level in levels if level):
            if len(price) <= MAXIMUM_DIGITS and _NUMBER.fullmatch(price) and Fraction(price) % tick:
                return price
    return ""


def off_grid_text(price: str, instrument: Instrument) -> str:
    """What `off_grid_price` found, for people; empty where it found nothing."""
    return f"price {price} is off the grid of tick size {instrument.tick_size}" if price else ""
