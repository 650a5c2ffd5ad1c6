"""Which instrument a capture is of, and on which price grid, where the caller does not say."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from lob.captures import Capture
from lob.errors import InputError
from lob.instrument import Instrument, infer_instrument
from lob.messages import BookUpdate
from lob.venues import make_decoder

INFERRED_FROM_MESSAGES = 1_000
"""Book messages whose prices an unstated tick size is inferred from, snapshots among them."""

_PRICE = re.compile(r"(?=.*[1-9])\d+(\.\d+)?")
_LEVELS = msgspec.json.Decoder(list[tuple[str, str]])


@dataclass(frozen=True, kw_only=True)
class CaptureInstrument:
    """An instrument, and where its tick size comes from, in words."""

    instrument: Instrument
    tick_origin: str


def capture_instrument(
    capture: Capture, *, symbol: str | None = None, tick_size: str | None = None
) -> CaptureInstrument:
    """The instrument of `capture`: as given, else as it states, the tick size else inferred from its prices.

    Raises InputError where the capture holds several symbols or names none and `symbol` is None, or where
    there is no price to infer from; CaptureError where the capture is damaged before that.
    """
    stated = {hint.symbol: hint.tick_size for hint in capture.instruments}
    if symbol is None:
        if len(stated) != 1:
            held = f"holds {', '.join(sorted(stated))}" if stated else "names no symbol at its start"
            raise InputError(f"symbol: none given, and the capture {held}; name one with --symbol")
        symbol = next(iter(stated))
    if tick_size is not None:
        return CaptureInstrument(
            instrument=Instrument(symbol=symbol, tick_size=tick_size), tick_origin="given"
        )
    stated_tick = stated.get(symbol)
    if stated_tick is not None:
        return CaptureInstrument(
            instrument=Instrument(symbol=symbol, tick_size=stated_tick), tick_origin="stated in the capture"
        )
    prices: set[str] = set()
    messages = 0
    for update in _book_updates(capture, symbol):
        prices.update(price for price in _prices(update) if _PRICE.fullmatch(price))
        messages += 1
        if messages == INFERRED_FROM_MESSAGES:
            break
    if not prices:
        raise InputError(
            f"tick_size: none given or stated, and no price of {symbol} to infer it from "
            f"in the first {messages} book messages; give it with --tick-size"
        )
    return CaptureInstrument(
        instrument=infer_instrument(symbol, prices),
        tick_origin=f"inferred from {len(prices)} prices in the first {messages} book messages",
    )


def _book_updates(capture: Capture, symbol: str) -> Iterator[BookUpdate]:
    decoder = make_decoder(capture.venue)
    for _, frame in capture:
        message = decoder.decode(frame)
        if isinstance(message, BookUpdate) and message.symbol in {symbol, ""}:
            yield message


def _prices(update: BookUpdate) -> Iterator[str]:
    """The prices of a message as printed; none of a damaged side, which the replay will meet again."""
    for side in (update.bids, update.asks):
        try:
            levels = _LEVELS.decode(side)
        except (ValueError, RecursionError):  # msgspec's errors are of the first, and bytes that are no text
            continue
        for price, _ in levels:
            yield price
