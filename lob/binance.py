"""Binance combined streams and REST snapshots: a frame's bytes to a message.

Source: Binance API documentation, "Diff. Depth Stream" and "Order Book", spot, USD-M and COIN-M futures.
Futures name the previous message (`pu`) and the matching engine's time (`T`); spot has neither.
"""

from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct, field

from lob.messages import BookUpdate, Malformed, Message, Other, Trade, Trades

Count = Annotated[int, Meta(ge=0, le=2**62)]


class _Depth(Struct, gc=False):
    symbol: str = field(name="s")
    gateway_ms: Count = field(name="E")
    first_update_id: Count = field(name="U")
    update_id: Count = field(name="u")
    bids: Raw = field(name="b")
    asks: Raw = field(name="a")
    exchange_ms: Count = field(name="T", default=0)
    previous_update_id: Count = field(name="pu", default=-1)


class _DepthFrame(Struct, gc=False):
    data: _Depth


class _Snapshot(Struct, gc=False):
    update_id: Count = field(name="lastUpdateId")
    bids: Raw
    asks: Raw
    symbol: str = ""
    gateway_ms: Count = field(name="E", default=0)
    exchange_ms: Count = field(name="T", default=0)


class _Trade(Struct, gc=False):
    symbol: str = field(name="s")
    gateway_ms: Count = field(name="E")
    exchange_ms: Count = field(name="T")
    price: str = field(name="p")
    size: str = field(name="q")
    buyer_is_maker: bool = field(name="m")
    trade_id: Count = field(name="t", default=0)
    aggregate_id: Count = field(name="a", default=0)


class _TradeFrame(Struct, gc=False):
    stream: str
    data: _Trade


class _Frame(Struct, gc=False):
    stream: str


class BinanceDecoder:
    """Decoder of one combined stream's frames and of the snapshot asked for beside it."""

    venue = "binance"
    snapshot_apart = True
    """The snapshot comes by another way than the changes, while they already run."""

    def __init__(self) -> None:
        self._depth = msgspec.json.Decoder(_DepthFrame)
        self._snapshot = msgspec.json.Decoder(_Snapshot)
        self._trade = msgspec.json.Decoder(_TradeFrame)
        self._frame = msgspec.json.Decoder(_Frame)

    def decode(self, frame: bytes) -> Message:
        """The message in `frame`, `Malformed` where there is none; never raises."""
        try:
            if b'"depthUpdate"' in frame:
                depth = self._depth.decode(frame).data
                return BookUpdate(
                    depth.symbol,
                    False,
                    depth.first_update_id,
                    depth.update_id,
                    depth.previous_update_id,
                    depth.update_id,
                    depth.exchange_ms or depth.gateway_ms,
                    depth.gateway_ms,
                    depth.bids,
                    depth.asks,
                )
            if b'"lastUpdateId"' in frame:
                snapshot = self._snapshot.decode(frame)
                return BookUpdate(
                    snapshot.symbol,
                    True,
                    snapshot.update_id,
                    snapshot.update_id,
                    -1,
                    snapshot.update_id,
                    snapshot.exchange_ms or snapshot.gateway_ms,
                    snapshot.gateway_ms,
                    snapshot.bids,
                    snapshot.asks,
                )
            stream = self._frame.decode(frame).stream
            if not stream.endswith(("@trade", "@aggTrade")):
                return Other(stream)
            one = self._trade.decode(frame).data
        except (ValueError, RecursionError) as error:
            return Malformed(str(error))
        side = -1 if one.buyer_is_maker else 1
        trade_id = str(one.trade_id or one.aggregate_id)
        trade = Trade(one.symbol, one.exchange_ms, one.price, one.size, side, trade_id)
        return Trades(stream, one.gateway_ms, [trade])

    def scannable_topic(self, depth: int) -> bytes:
        """Empty: `lob.delta_scan` reads none of this venue's frames."""
        return b""
