"""A capture through the serving code, one JSON line per sampled message, to hold against another program.

Lines are numbers, not strings: prices as the exchange prints them, sizes and features as they are computed
with.
"""

import time
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct
from msgspec.json import Encoder

from inference.pipeline import Pipeline
from inference.prediction import encode_prediction
from lob.captures import CapturedFrame
from lob.captures.checkpoint import printed_price
from lob.messages import Trades
from lob.row_status import RowStatus
from lob.rows import RowPath
from lob.schema import LEVELS
from lob.trade_tape import TapedTrade, TradeTape


class BookLine(Struct, gc=False):
    """The best levels after a message, [price, size] best first."""

    symbol: str
    update_id: int
    exchange_ms: int
    bids: list[tuple[float, float]]
    asks: list[tuple[float, float]]


class FeatureLine(Struct, gc=False):
    """The feature row after a message, in the order of its schema."""

    symbol: str
    update_id: int
    exchange_ms: int
    values: list[float]


class TradeLine(Struct, gc=False):
    """One trade at the matching engine's time; `side` is the taker's: 1 bought, -1 sold."""

    exchange_ms: int
    price: float
    size: float
    side: int
    trade_id: str


class TradesLine(Struct, gc=False):
    """The trades that had happened by a book update and not by the one before it."""

    symbol: str
    update_id: int
    exchange_ms: int
    trades: list[TradeLine]


_ENCODER = Encoder()


def book_line(rows: RowPath) -> bytes:
    """The book as a JSON object, at most ten levels a side."""
    bids, asks = rows.book.printed(LEVELS)
    return _ENCODER.encode(BookLine(rows.symbol, rows.update_id, rows.exchange_ms, bids, asks))


def feature_line(rows: RowPath) -> bytes:
    """The newest feature row as a JSON object."""
    values: list[float] = rows.window.latest().tolist()
    return _ENCODER.encode(FeatureLine(rows.symbol, rows.update_id, rows.exchange_ms, values))


def replay_rows(
    frames: Iterable[CapturedFrame], rows: RowPath, line: Callable[[RowPath], bytes]
) -> Iterator[bytes]:
    """`line(rows)` after each frame that gave a row."""
    for receive_ns, frame in frames:
        status = rows.on_frame(frame, receive_ns)
        if status is RowStatus.ROW or status is RowStatus.SNAPSHOT:
            yield line(rows)


def replay_trades(frames: Iterable[CapturedFrame], rows: RowPath, tape: TradeTape) -> Iterator[bytes]:
    """After each frame that gave a row, the trades that `tape` joins to it, as a JSON object."""
    for receive_ns, frame in frames:
        status = rows.on_frame(frame, receive_ns)
        if status is RowStatus.ROW or status is RowStatus.SNAPSHOT:
            yield trades_line(rows, tape.take(rows.exchange_ms))
        elif status is RowStatus.NOT_BOOK and isinstance(message := rows.message, Trades):
            tape.add(trade for trade in message.trades if trade.symbol == rows.symbol)


def trades_line(rows: RowPath, taken: Iterable[TapedTrade]) -> bytes:
    """The trades of a book update as a JSON object."""
    trades = [
        TradeLine(
            trade.exchange_ms,
            float(printed_price(rows.instrument, trade.price_ticks)),
            trade.size,
            trade.side,
            trade.trade_id,
        )
        for trade in taken
    ]
    return _ENCODER.encode(TradesLine(rows.symbol, rows.update_id, rows.exchange_ms, trades))


def replay_predictions(
    frames: Iterable[CapturedFrame], pipeline: Pipeline, on_latency_ns: Callable[[int], None]
) -> Iterator[bytes]:
    """Each prediction as a JSON object, emitted as long after its frame as `on_frame` took.

    `on_latency_ns` is told that time for each prediction.
    """
    clock, on_frame = time.perf_counter_ns, pipeline.on_frame
    pipeline.on_connected()
    for receive_ns, frame in frames:
        started_ns = clock()
        prediction = on_frame(frame, receive_ns)
        if prediction is not None:
            elapsed_ns = clock() - started_ns
            on_latency_ns(elapsed_ns)
            prediction.stamp(receive_ns + elapsed_ns)
            yield encode_prediction(prediction)
