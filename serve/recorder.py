"""The recorder: an exchange's frames as they come, into a recording, its sequence checked on the way."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from lob.captures import InstrumentHint, RecordingWriter
from lob.errors import InputError
from lob.instrument import Instrument
from lob.rows import RowPath, RowStatus
from lob.venues import make_decoder
from serve.bybit_stream import BookTopic, public_address
from serve.clock import AnchoredClock
from serve.feed import Feed, FeedConfig
from serve.reconnect import ReconnectPolicy
from serve.warmup import warm_up_rows

logger = logging.getLogger(__name__)

FLUSH_INTERVAL_NS = 1_000_000_000

_LOST = frozenset({RowStatus.GAP, RowStatus.CROSSED, RowStatus.MALFORMED, RowStatus.OVERFLOW})
_NO_SIGN_OF_LIFE = frozenset({RowStatus.NOT_JSON, RowStatus.NOT_BOOK, RowStatus.OTHER_STREAM})


class RecordingSummary(msgspec.Struct, frozen=True):
    """What a recording came to; `lost_books` counts the gaps and other ends of a sound sequence."""

    path: str
    frames: int
    frame_bytes: int
    file_bytes: int
    seconds: float
    snapshots: int
    gaps: int
    lost_books: int
    stalls: int
    resyncs: int
    connections: int


class RecordingConsumer:
    """Writes every frame down and follows the book, so that a lost one is asked for again at once.

    A `serve.feed.FrameConsumer`; raises CaptureError where the disk refuses.
    """

    def __init__(self, writer: RecordingWriter, rows: RowPath, stall_ms: int) -> None:
        self.needs_resync = False
        self.stalls = 0
        self._writer = writer
        self._rows = rows
        self._stall_ns = stall_ms * 1_000_000
        self._connected = False
        self._fresh_ns: int | None = None
        self._flushed_ns = 0

    @property
    def awaits_snapshot(self) -> bool:
        """Whether the book is unknown until a snapshot comes."""
        return self._connected and not self._rows.book.usable

    def on_connected(self) -> None:
        """Begin anew: what the book was is past."""
        self._rows.reset()
        self._connected = True
        self._fresh_ns = None
        self.needs_resync = False

    def on_disconnected(self, reason: str) -> None:
        """The book is unknown until the next connection's snapshot."""
        self._rows.reset()
        self._connected = False
        self.needs_resync = False

    def on_frame(self, frame: bytes, receive_ns: int) -> None:
        """Write the frame, whatever it is, then see what it does to the book."""
        self._writer.write(receive_ns, frame)
        status = self._rows.on_frame(frame, receive_ns)
        if status not in _NO_SIGN_OF_LIFE:
            self._fresh_ns = receive_ns
        if status in _LOST:
            logger.warning("the book is lost at update %d: %s", self._rows.update_id, status.name.lower())
            self.needs_resync = True
        elif status is RowStatus.SNAPSHOT:
            self.needs_resync = False

    def check_freshness(self, now_ns: int) -> None:
        """Flush what was written, and notice a silent feed."""
        if now_ns - self._flushed_ns >= FLUSH_INTERVAL_NS:
            self._flushed_ns = now_ns
            self._writer.flush()
        if self._fresh_ns is None:
            self._fresh_ns = now_ns
        if self._connected and now_ns - self._fresh_ns >= self._stall_ns:
            self._fresh_ns = now_ns
            self.stalls += 1
            self._rows.reset()
            self.needs_resync = True

    def resync_requested(self) -> None:
        """A new snapshot has been asked for."""
        self.needs_resync = False
        self._fresh_ns = None


@dataclass(frozen=True, kw_only=True)
class RecorderConfig:
    """What to record, from where, into which file, and for how long (None: until stopped)."""

    topic: BookTopic
    url: str
    instrument: Instrument
    path: Path
    stall_ms: int
    seconds: float | None = None
    reconnect: ReconnectPolicy = field(default_factory=ReconnectPolicy)

    def __post_init__(self) -> None:
        if self.seconds is not None and not self.seconds > 0:
            raise InputError(f"seconds: {self.seconds} came, above 0 is allowed")


class Recorder:
    """One recording, from its first connection to its closed file."""

    def __init__(self, config: RecorderConfig) -> None:
        """Create the file, and its folder where there is none.

        Raises InputError where the file exists or the folder cannot be made, CaptureError where the file
        cannot be.
        """
        try:
            config.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{config.path.parent}: cannot be created ({error.strerror})") from error
        warm_up_rows()
        self._config = config
        self._stopped = asyncio.Event()
        self._clock = AnchoredClock()
        self._rows = RowPath(make_decoder("bybit"), config.instrument, depth=config.topic.depth)
        self._writer = RecordingWriter(
            config.path,
            venue="bybit",
            instruments=[InstrumentHint(symbol=config.topic.symbol, tick_size=config.instrument.tick_size)],
            created_ns=self._clock.now_ns(),
            source=public_address(config.url),
        )
        self._consumer = RecordingConsumer(self._writer, self._rows, config.stall_ms)
        self._feed = Feed(
            FeedConfig(url=config.url, reconnect=config.reconnect), {config.topic: self._consumer}, self._clock
        )

    async def run(self) -> RecordingSummary:
        """Record until the time is up or `stop`; the file is whole afterwards.

        Where the feed or the disk fails for good the error is raised, and the file stays a readable part.
        """
        began_ns = self._clock.now_ns()
        with self._writer:
            feed = asyncio.create_task(self._feed.run(), name="feed")
            stopped = asyncio.create_task(self._stopped.wait(), name="stop")
            try:
                await asyncio.wait(
                    (feed, stopped), timeout=self._config.seconds, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                feed.cancel()
                stopped.cancel()
                with suppress(asyncio.CancelledError):
                    await feed
        return self._summary((self._clock.now_ns() - began_ns) / 1e9)

    def stop(self) -> None:
        """End the recording in good order."""
        self._stopped.set()

    def _summary(self, seconds: float) -> RecordingSummary:
        counters = self._rows.counters
        return RecordingSummary(
            path=str(self._config.path),
            frames=self._writer.frames,
            frame_bytes=self._feed.counters.bytes,
            file_bytes=self._config.path.stat().st_size,
            seconds=round(seconds, 3),
            snapshots=counters["snapshot"],
            gaps=counters["gap"],
            lost_books=sum(counters[status.name.lower()] for status in _LOST),
            stalls=self._consumer.stalls,
            resyncs=self._feed.counters.resyncs,
            connections=self._feed.counters.connections,
        )
