"""Lines that are Bybit v5 public frames and nothing else: `.ndjson` captures and Bybit's `ob500` archive."""

from contextlib import suppress

import msgspec

from lob.captures.frames import CapturedFrame, excerpt, hints

EXPECTED = "expected one JSON object of Bybit's public stream"


class _Envelope(msgspec.Struct, gc=False):
    topic: str | None = None
    op: str | None = None
    ts: int | None = None
    rest_code: int | None = msgspec.field(name="retCode", default=None)


_decode = msgspec.json.Decoder(_Envelope).decode


def _read(line: bytes) -> _Envelope:
    try:
        return _decode(line)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ValueError(f"{EXPECTED}, got {excerpt(line)} ({error})") from error


class BybitLines:
    """The line format whose lines are the frames.

    It holds no receive time, so a frame's own gateway time `ts` stands for it; an acknowledgement, which has
    none, takes the time of the frame before it (at the start: of the first frame that has one).
    Source: Bybit v5 documentation, "Websocket Stream, Public, Orderbook".
    """

    venue = "bybit"
    source = ""

    def __init__(self, first_lines: list[bytes]) -> None:
        envelopes = []
        for line in first_lines:
            with suppress(ValueError):  # `frame` reports it, once the lines before it have been delivered
                envelopes.append(_read(line))
        topics = [envelope.topic for envelope in envelopes if envelope.topic is not None]
        books = [topic for topic in topics if topic.startswith("orderbook.")]
        self.instruments = hints(topic.rsplit(".", 1)[1] for topic in books)
        self._last_ms = next((envelope.ts for envelope in envelopes if envelope.ts is not None), 0)

    @staticmethod
    def recognises(line: bytes) -> bool:
        """Whether `line` is a data message or an answer to a request, of the stream or of REST."""
        try:
            envelope = _read(line)
        except ValueError:
            return False
        return any(one is not None for one in (envelope.topic, envelope.op, envelope.rest_code))

    def frame(self, line: bytes) -> CapturedFrame:
        """The whole line is the frame; raises ValueError where it is no JSON object."""
        ts = _read(line).ts
        if ts is not None:
            self._last_ms = ts
        return CapturedFrame(self._last_ms * 1_000_000, line)
