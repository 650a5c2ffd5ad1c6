"""What a capture yields and what each kind of line must offer; containers are no concern of this module."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import msgspec


class CapturedFrame(NamedTuple):
    """One frame as the venue sent it, byte for byte, and when it came.

    `receive_ns` is Unix time: the recorder's own clock where the file holds it, else the exchange's gateway
    time.
    """

    receive_ns: int
    frame: bytes


class InstrumentHint(msgspec.Struct, frozen=True, kw_only=True):
    """A symbol that a file says it holds, and its tick size as text where the file states one."""

    symbol: str
    tick_size: str | None = None


class LineFormat(Protocol):
    """Reads the lines of one file in order; every pass over the file takes a fresh one.

    Its constructor is given the file's first lines. It and `frame` raise ValueError, saying what was
    expected, for a line that is not of the format.
    """

    @property
    def venue(self) -> str:
        """The exchange whose messages the frames are: "bybit" or "binance"."""

    @property
    def instruments(self) -> tuple[InstrumentHint, ...]:
        """The symbols found at the file's start."""

    @property
    def source(self) -> str:
        """Where the file says that its frames come from; empty where it does not say."""

    def frame(self, line: bytes) -> CapturedFrame | None:
        """The frame in the next `line`, given without its line ending; None where the line holds none."""


def hints(symbols: Iterable[str]) -> tuple[InstrumentHint, ...]:
    """One hint without a tick size for each different symbol, in order of appearance."""
    return tuple(InstrumentHint(symbol=symbol) for symbol in dict.fromkeys(symbols))


def excerpt(line: bytes) -> str:
    """The start of `line`, printable, for an error message."""
    shown = ascii(line[:40].decode("utf-8", "replace"))
    return f"{shown}..." if len(line) > 40 else shown
