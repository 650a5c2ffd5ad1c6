"""The venues whose frames can be decoded, by name."""

from typing import Literal, Protocol, get_args

from lob.binance import BinanceDecoder
from lob.bybit import BybitDecoder
from lob.errors import InputError
from lob.messages import Message

Venue = Literal["bybit", "binance"]


class Decoder(Protocol):
    """Turns the frames of one connection into messages."""

    venue: str
    snapshot_apart: bool
    """Whether snapshots come by another way than the changes, so that early changes must be kept for them."""

    def decode(self, frame: bytes) -> Message:
        """The message in `frame`, `Malformed` where there is none; never raises."""

    def scannable_topic(self, depth: int) -> bytes:
        """What stands before the symbol in the topic whose changes `lob.delta_scan` reads; empty for none."""


def make_decoder(venue: str) -> Decoder:
    """A decoder of `venue`'s frames; raises InputError for a venue there is none for."""
    if venue == "bybit":
        return BybitDecoder()
    if venue == "binance":
        return BinanceDecoder()
    raise InputError(f"venue: unknown name {venue!r}; allowed: {', '.join(get_args(Venue))}")
