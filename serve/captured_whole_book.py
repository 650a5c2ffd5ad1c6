"""A captured whole book as a market: its changes, and the book where a fetched snapshot tells of it."""

from collections import deque
from collections.abc import Iterable, Iterator

import msgspec

from lob.captures import Capture, CapturedFrame
from serve.exchange_book import BookData, BookMessage, ExchangeBook, decode_book
from serve.faults import is_delta

RECENT_CHANGES = 2_000


class _Result(BookData):
    ts: int = 0
    cts: int | None = None


class _Answer(msgspec.Struct, gc=False):
    result: _Result


_decode_answer = msgspec.json.Decoder(_Answer).decode


def whole_book_frames(capture: Capture, topic: str) -> Iterator[tuple[str, CapturedFrame]]:
    """The changes of `topic` as they are, and snapshots of the market's own book where it becomes known.

    Such a snapshot stands right after a change and is the book after it; no exchange sends it. What was
    recorded of REST answers becomes one where a change has both its numbers.
    """
    symbol = topic.rpartition(".")[2]
    book = ExchangeBook()
    recent: deque[BookMessage] = deque(maxlen=RECENT_CHANGES)
    fetched: BookMessage | None = None
    for receive_ns, frame in capture:
        if b'"retCode"' in frame:
            fetched = _fetched(frame, topic, symbol) or fetched
        else:
            change = _change(frame, topic)
            if change is None:
                continue
            yield topic, CapturedFrame(receive_ns, frame)
            if change.type == "snapshot" or change.data.u == 1:
                recent.clear()
            recent.append(change)
            book.apply(frame)
        if book.is_known:
            fetched = None
        elif fetched is not None and _joins(fetched, recent):
            for one in (fetched, *recent):
                book.apply(msgspec.json.encode(one))
            fetched = None
            yield topic, CapturedFrame(receive_ns, book.snapshot())


def _joins(fetched: BookMessage, recent: Iterable[BookMessage]) -> bool:
    """Whether a snapshot has both numbers of a change, and no change after that one is missing."""
    later = [one.data.u for one in recent if one.data.u >= fetched.data.u]
    equal = any((one.data.u, one.data.seq) == (fetched.data.u, fetched.data.seq) for one in recent)
    return equal and later == list(range(later[0], later[0] + len(later)))


def _change(frame: bytes, topic: str) -> BookMessage | None:
    """The message of `topic` in a frame; None where it is another's, or none."""
    if b'"orderbook.' not in frame:
        return None
    try:
        message = decode_book(frame)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return message if message.topic == topic and (is_delta(frame) or message.type == "snapshot") else None


def _fetched(frame: bytes, topic: str, symbol: str) -> BookMessage | None:
    """The answer to a request for the whole book, as a message of the stream would tell it."""
    try:
        result = _decode_answer(frame).result
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if result.s != symbol:
        return None
    data = BookData(result.s, result.b, result.a, result.u, result.seq)
    return BookMessage(topic, "snapshot", result.ts, data, result.cts)
