"""`<local timestamp> <json>` a line, as collectors of Binance's combined streams write them."""

import re
from contextlib import suppress

import msgspec

from lob.captures.frames import CapturedFrame, excerpt, hints

EXPECTED = "expected '<Unix time of 13, 16 or 19 digits> <JSON object>'"
LINE = re.compile(rb"(\d{13}|\d{16}|\d{19}) (\{.*\})", re.DOTALL)
NANOSECONDS = {13: 1_000_000, 16: 1_000, 19: 1}
"""What the last digit of a timestamp stands for, by its number of digits."""


class _Event(msgspec.Struct, gc=False):
    s: str | None = None


class _Envelope(msgspec.Struct, gc=False):
    stream: str | None = None
    lastUpdateId: int | None = None  # noqa: N815 - the exchange's own name
    data: _Event | None = None


_decode = msgspec.json.Decoder(_Envelope).decode


class StampedLines:
    """The line format of a collector's timestamp, one space, and the frame.

    The timestamp is in nanoseconds, microseconds or milliseconds, told apart by its number of digits.
    Source: Binance documentation, "Websocket Market Streams, combined streams"; the collector of hftbacktest.
    """

    venue = "binance"
    source = ""

    def __init__(self, first_lines: list[bytes]) -> None:
        envelopes = []
        for line in first_lines:
            with suppress(ValueError, msgspec.DecodeError, RecursionError):  # met again in its turn
                envelopes.append(_decode(self.frame(line).frame))
        if all(envelope.stream is None and envelope.lastUpdateId is None for envelope in envelopes):
            raise ValueError(f"{EXPECTED} with a stream or a lastUpdateId, got {excerpt(first_lines[0])}")
        events = [envelope.data for envelope in envelopes if envelope.data is not None]
        self.instruments = hints(event.s for event in events if event.s is not None)

    @staticmethod
    def recognises(line: bytes) -> bool:
        """Whether `line` has this format's shape."""
        return LINE.fullmatch(line) is not None

    def frame(self, line: bytes) -> CapturedFrame:
        """The frame is everything after the first space; raises ValueError for a line of another shape."""
        match = LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{EXPECTED}, got {excerpt(line)}")
        stamp, frame = match.groups()
        return CapturedFrame(int(stamp) * NANOSECONDS[len(stamp)], frame)
