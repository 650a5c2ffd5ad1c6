"""A book as a snapshot of the recorder's making: a recording's next file can be read without the last."""

import msgspec
import numpy as np

from lob.book import Floats, Integers
from lob.captures.recording import Checkpoint
from lob.instrument import Instrument
from lob.rows import RowPath


def book_checkpoint(rows: RowPath, depth: int, receive_ns: int) -> Checkpoint | None:
    """The book of `rows` in the shape of Bybit's snapshot; None where it is not in sequence.

    Read back it gives the same ticks and sizes, and the next change applies to it as to the book itself.
    `seq`, which `rows` does not keep, is left out.
    """
    if not rows.book.usable:
        return None
    instrument = rows.instrument
    frame = {
        "topic": f"orderbook.{depth}.{rows.symbol}",
        "type": "snapshot",
        "ts": rows.gateway_ms,
        "data": {
            "s": rows.symbol,
            "b": _levels(instrument, *rows.book.bids()),
            "a": _levels(instrument, *rows.book.asks()),
            "u": rows.book.update_id,
        },
        "cts": rows.exchange_ms,
    }
    return Checkpoint(receive_ns=receive_ns, frame=msgspec.json.encode(frame).decode())


def _levels(instrument: Instrument, ticks: Integers, sizes: Floats) -> list[tuple[str, str]]:
    """`[price, size]` as text, exact to the tick and to the last bit."""
    return [
        (printed_price(instrument, tick), np.format_float_positional(size, trim="-"))
        for tick, size in zip(ticks.tolist(), sizes.tolist(), strict=True)
    ]


def printed_price(instrument: Instrument, ticks: int) -> str:
    """The price of `ticks` as text, with the decimals of the tick size."""
    decimals = instrument.tick_decimals
    digits = str(ticks * instrument.tick_mantissa).zfill(decimals + 1)
    return f"{digits[:-decimals]}.{digits[-decimals:]}" if decimals else digits
