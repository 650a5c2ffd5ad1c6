"""Bybit v5 public stream: a frame's bytes to a message.

Source: Bybit API documentation, v5, "WebSocket Stream: Connect", "Public: Orderbook", "Public: Full
Orderbook" and "Public: Trade", and for the snapshot of the whole book "Get Full Depth Orderbook" (REST).
`cts` is the matching engine's clock, `ts` the gateway's; `u` counts the book's updates and restarts at 1
with the service.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct, field

from lob.messages import (
    WHOLE_BOOK,
    Acknowledgement,
    BookUpdate,
    Malformed,
    Message,
    Other,
    Pong,
    Trade,
    Trades,
    VenueError,
)

DEPTHS = (1, 50, 200, 500, 1000)
"""Levels a side of the order-book topics; 500 is the public archive's. WHOLE_BOOK is the topic of all."""

FULL = "full"
"""What stands in WHOLE_BOOK's topic in place of a number of levels."""

_DEPTH_NAMES = frozenset(map(str, DEPTHS))
_REMEMBERED_TOPICS = 64
_TRADES = "publicTrade."
_TRADES_FIRST = b'{"topic":"publicTrade.'

Count = Annotated[int, Meta(ge=0, le=2**62)]


class _BookData(Struct, gc=False):
    s: str
    b: Raw
    a: Raw
    u: Count
    seq: Count = 0


class _BookFrame(Struct, gc=False):
    topic: str
    type: str
    ts: Count
    data: _BookData
    cts: Count = 0


class _RestBook(_BookData):
    ts: Count = 0
    cts: Count = 0


class _RestAnswer(Struct, gc=False):
    code: int = field(name="retCode")
    message: str = field(name="retMsg", default="")
    result: Raw = Raw(b"{}")


class _Trade(Struct, gc=False):
    exchange_ms: Count = field(name="T")
    symbol: str = field(name="s")
    taker: Literal["Buy", "Sell"] = field(name="S")
    size: str = field(name="v")
    price: str = field(name="p")
    trade_id: str = field(name="i")
    sequence: Count = field(name="seq", default=0)


class _TradeFrame(Struct, gc=False):
    topic: str
    data: list[_Trade]
    ts: Count = 0


class _Frame(Struct, gc=False):
    topic: str = ""
    op: str = ""
    success: bool | None = None
    ret_msg: str = ""
    req_id: str = ""
    conn_id: str = ""


def book_topic(depth: int, symbol: str) -> str:
    """The order-book topic of `depth` levels a side, or of all, as the exchange spells it."""
    return f"orderbook.{FULL if depth == WHOLE_BOOK else depth}.{symbol}"


def is_whole_book(topic: str) -> bool:
    """Whether `topic` is an order book's of all levels."""
    return topic.startswith(f"orderbook.{FULL}.")


class BybitDecoder:
    """Decoder of one connection's frames."""

    venue = "bybit"
    snapshot_apart = False
    """Snapshots come in the stream, before the changes to them; the whole book's alone do not, and that each
    of its messages says itself (`BookUpdate.exact`)."""

    def __init__(self) -> None:
        self._book = msgspec.json.Decoder(_BookFrame)
        self._trades = msgspec.json.Decoder(_TradeFrame)
        self._frame = msgspec.json.Decoder(_Frame)
        self._answer = msgspec.json.Decoder(_RestAnswer)
        self._rest_book = msgspec.json.Decoder(_RestBook)
        self._topics: dict[str, tuple[int, str]] = {}

    def decode(self, frame: bytes) -> Message:
        """The message in `frame`, `Malformed` where there is none; never raises."""
        if b'"orderbook.' not in frame:
            return self._decode_other(frame)
        try:
            book = self._book.decode(frame)
        except (ValueError, RecursionError) as error:
            other = self._decode_other(frame)  # an acknowledgement may list topics
            return Malformed(str(error)) if isinstance(other, Other) else other
        data = book.data
        depth, symbol = self._topics.get(book.topic) or self._read_topic(book.topic)
        if not symbol or symbol != data.s or book.type not in {"snapshot", "delta"}:
            return Malformed(f"topic {book.topic!r} with symbol {data.s!r} and type {book.type!r}")
        update_id = data.u
        is_snapshot = book.type == "snapshot"
        exact = depth == WHOLE_BOOK and not is_snapshot
        if exact and data.seq == 0:
            return Malformed(f"a change of {book.topic!r} without seq, by which a snapshot is joined")
        return BookUpdate(
            data.s,
            is_snapshot or (update_id == 1 and not exact),
            update_id,
            update_id,
            -1,
            data.seq,
            book.cts or book.ts,
            book.ts,
            data.b,
            data.a,
            depth,
            depth == 1,
            exact,
        )

    def scannable_topic(self, depth: int) -> bytes:
        """The topic of `depth` levels a side up to its symbol: `lob.delta_scan` reads its changes.

        Empty for the whole book, whose sequence asks for more than `lob.delta_scan` knows.
        """
        return b"" if depth == WHOLE_BOOK else b"orderbook.%d." % depth

    def _read_topic(self, topic: str) -> tuple[int, str]:
        """(levels a side, symbol) of an order-book topic, remembered; no symbol where it is no such topic."""
        match topic.split("."):
            case ["orderbook", depth, symbol] if depth in _DEPTH_NAMES and symbol:
                known = (int(depth), symbol)
            case ["orderbook", name, symbol] if name == FULL and symbol:
                known = (WHOLE_BOOK, symbol)
            case _:
                return 0, ""
        if len(self._topics) < _REMEMBERED_TOPICS:
            self._topics[topic] = known
        return known

    def _decode_trades(self, frame: bytes) -> Message:
        """A frame of a trade topic."""
        try:
            message = self._trades.decode(frame)
        except (ValueError, RecursionError) as error:
            return Malformed(str(error))
        symbol = message.topic.removeprefix(_TRADES)
        if any(one.symbol != symbol for one in message.data):
            return Malformed(f"topic {message.topic!r} with a trade of another symbol")
        trades = [
            Trade(
                one.symbol,
                one.exchange_ms,
                one.price,
                one.size,
                1 if one.taker == "Buy" else -1,
                one.trade_id,
                one.sequence,
            )
            for one in message.data
        ]
        return Trades(message.topic, message.ts, trades)

    def _decode_answer(self, frame: bytes) -> Message:
        """The answer to a REST request: the whole book's snapshot, or a refusal."""
        try:
            answer = self._answer.decode(frame)
            if answer.code != 0:
                return VenueError(answer.message)
            data = self._rest_book.decode(answer.result)
        except (ValueError, RecursionError) as error:
            return Malformed(str(error))
        if not data.s or data.seq == 0:
            return Malformed("a snapshot without symbol or seq, by which it is joined")
        times = (data.cts or data.ts, data.ts)
        return BookUpdate(
            data.s, True, data.u, data.u, -1, data.seq, *times, data.b, data.a, WHOLE_BOOK, exact=True
        )

    def _decode_other(self, frame: bytes) -> Message:
        """A frame that is no order book's."""
        if frame.startswith(_TRADES_FIRST):
            return self._decode_trades(frame)
        if b'"retCode"' in frame:
            return self._decode_answer(frame)
        try:
            other = self._frame.decode(frame)
        except (ValueError, RecursionError) as error:
            return Malformed(str(error))
        if other.topic:
            return self._decode_trades(frame) if other.topic.startswith(_TRADES) else Other(other.topic)
        if other.op == "pong" or other.ret_msg == "pong":
            return Pong(other.req_id, other.conn_id)
        if other.op in {"subscribe", "unsubscribe"} and other.success is not None:
            return Acknowledgement(other.op, other.success, other.ret_msg, other.req_id, other.conn_id)
        if other.success is False:
            return VenueError(other.ret_msg)
        return Malformed("has neither a topic nor a known operation")
