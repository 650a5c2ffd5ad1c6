"""A book as a snapshot of the recorder's making: a recording's next file can be read without the last."""

from typing import Any

import msgspec
import numpy as np

from lob.book import Floats, Integers
from lob.bybit import book_topic
from lob.captures.recording import Checkpoint
from lob.instrument import Instrument
from lob.rows import RowPath


def book_checkpoint(rows: RowPath, depth: int, receive_ns: int) -> Checkpoint | None:
    """The book of `rows` in the shape of its venue's snapshot; None where it is not in sequence.

    Read back it gives the same ticks, sizes, numbers and times, and the next change applies to it as to the
    book itself. `depth` names Bybit's topic.
    """
    if not rows.book.usable:
        return None
    frame = _binance(rows) if rows.decoder.venue == "binance" else _bybit(rows, depth)
    return Checkpoint(receive_ns=receive_ns, frame=msgspec.json.encode(frame).decode())


def _bybit(rows: RowPath, depth: int) -> dict[str, Any]:
    return {
        "topic": book_topic(depth, rows.symbol),
        "type": "snapshot",
        "ts": rows.gateway_ms,
        "data": {
            "s": rows.symbol,
            "b": _levels(rows.instrument, *rows.book.bids()),
            "a": _levels(rows.instrument, *rows.book.asks()),
            "u": rows.book.update_id,
            "seq": rows.sequence,
        },
        "cts": rows.exchange_ms,
    }


def _binance(rows: RowPath) -> dict[str, Any]:
    """The answer to a request for the order book, with the times that only futures have, and the symbol."""
    return {
        "lastUpdateId": rows.book.update_id,
        "symbol": rows.symbol,
        "E": rows.gateway_ms,
        "T": rows.exchange_ms,
        "bids": _levels(rows.instrument, *rows.book.bids()),
        "asks": _levels(rows.instrument, *rows.book.asks()),
    }


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
