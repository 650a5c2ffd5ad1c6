"""What the local exchange lists: its instruments, its topics, and the market behind each topic."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import msgspec

from inference.capture_instrument import capture_instrument
from lob.bybit import is_whole_book
from lob.captures import Capture, CapturedFrame
from lob.errors import InputError
from lob.market import MarketConfiguration, SimulatedMarket, shared_markets
from serve.captured_whole_book import whole_book_frames
from serve.faults import TopicFrames

SCANNED_FRAMES = 1_000
"""How far into a capture its topics are looked for."""


@dataclass(frozen=True, kw_only=True)
class Market:
    """Topics that are played on one clock; `open_frames` gives their frames from the start, at each call."""

    topics: tuple[str, ...]
    open_frames: Callable[[], TopicFrames]


@dataclass(frozen=True, kw_only=True)
class ListedInstrument:
    """An instrument's grid as the exchange states it, as texts."""

    symbol: str
    tick_size: str
    lot_size: str


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Everything an exchange can be asked for."""

    source: str
    """Where the frames come from, for people."""
    instruments: tuple[ListedInstrument, ...]
    markets: tuple[Market, ...]

    @property
    def topics(self) -> tuple[str, ...]:
        """All topics."""
        return tuple(topic for market in self.markets for topic in market.topics)


class _TopicOnly(msgspec.Struct, gc=False):
    topic: str = ""


class _Sizes(msgspec.Struct, gc=False):
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]
    s: str


class _BookMessage(msgspec.Struct, gc=False):
    topic: str
    data: _Sizes


_decode_topic = msgspec.json.Decoder(_TopicOnly).decode
_decode_book = msgspec.json.Decoder(_BookMessage).decode


def simulated_listing(configurations: Sequence[MarketConfiguration], *, trades: bool = False) -> Listing:
    """Simulated markets, one a symbol, at the depths that its configurations name, with trades or not.

    Each starts at the time of day when it is first played.
    """
    markets = shared_markets(configurations, trades=trades)
    # Compiles the kernels now, so that the first subscriber does not wait for it.
    sum(1 for _ in markets[0].frames(len(markets[0].depths) + 1))
    return Listing(
        source=configurations[0].source,
        instruments=tuple(
            ListedInstrument(symbol=one.symbol, tick_size=one.tick_size, lot_size=one.lot_size)
            for one in (market.configuration for market in markets)
        ),
        markets=tuple(
            Market(topics=market.topics, open_frames=partial(_simulated_now, market)) for market in markets
        ),
    )


def _simulated_now(market: SimulatedMarket) -> Iterator[tuple[str, CapturedFrame]]:
    start_ns = time.time_ns()
    configuration = replace(market.configuration, start_ms=start_ns // 1_000_000)
    now = SimulatedMarket(configuration, depths=market.depths, trades=market.trades)
    for message in now.messages():
        yield message.topic, CapturedFrame(start_ns + message.sent_us * 1000, message.frame)


def capture_listing(
    capture: Capture, *, symbols: Sequence[str] = (), tick_size: str | None = None
) -> Listing:
    """The order-book topics at a capture's start, of the given symbols (none given: of all).

    Raises InputError where the capture is of another venue or holds none of it, CaptureError where it is
    damaged in the part that is looked at.
    """
    if capture.venue != "bybit":
        raise InputError(
            f"{capture.paths[0]} is a capture of {capture.venue}; "
            "the exchange speaks Bybit's protocol, and serves captures of bybit alone"
        )
    lot_decimals: dict[str, int] = {}
    topics: dict[str, str] = {}
    for _, frame in islice(capture, SCANNED_FRAMES):
        try:
            message = _decode_book(frame)
        except (msgspec.DecodeError, ValueError, RecursionError):
            continue
        if message.topic.startswith("orderbook."):
            symbol = message.data.s
            if symbol in symbols or not symbols:
                topics[message.topic] = symbol
                sizes = [size for _, size in message.data.b + message.data.a]
                lot_decimals[symbol] = max([lot_decimals.get(symbol, 0), *map(_decimals, sizes)])
    missing = [symbol for symbol in symbols if symbol not in lot_decimals]
    if missing or not topics:
        raise InputError(
            f"{capture.paths[0]} holds no order-book topic of {', '.join(missing) or 'any symbol'} "
            f"in its first {SCANNED_FRAMES} frames"
        )
    instruments = []
    for symbol, decimals in lot_decimals.items():
        found = capture_instrument(capture, symbol=symbol, tick_size=tick_size)
        lot_size = f"0.{'1'.rjust(decimals, '0')}" if decimals else "1"
        instruments.append(
            ListedInstrument(symbol=symbol, tick_size=found.instrument.tick_size, lot_size=lot_size)
        )
    source = ", ".join(map(str, capture.paths))
    return Listing(
        source=f"{source} ({capture.source})" if capture.source else source,
        instruments=tuple(instruments),
        markets=tuple(
            Market(
                topics=(topic,),
                open_frames=partial(
                    whole_book_frames if is_whole_book(topic) else _topic_frames, capture, topic
                ),
            )
            for topic in topics
        ),
    )


def _topic_frames(capture: Capture, topic: str) -> Iterator[tuple[str, CapturedFrame]]:
    """The frames of one topic, as they are."""
    beginning = f'{{"topic":"{topic}",'.encode()
    for captured in capture:
        if captured.frame.startswith(beginning) or _topic_of(captured.frame) == topic:
            yield topic, captured


def _topic_of(frame: bytes) -> str:
    try:
        return _decode_topic(frame).topic
    except (msgspec.DecodeError, ValueError, RecursionError):
        return ""


def _decimals(number: str) -> int:
    return len(number.rstrip("0").partition(".")[2]) if "." in number else 0
