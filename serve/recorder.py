"""The recorder: an exchange's frames as they come, into captures, their sequence checked on the way."""

import asyncio
import logging
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from inference.folder_lock import folder_lock
from lob.captures.layout import recording_path, stream_directory
from lob.captures.rotation import RotatingWriter, RotationPolicy
from lob.captures.salvage import close_left
from lob.errors import InputError
from lob.instrument import Instrument
from lob.messages import BookUpdate
from lob.rows import RowPath, RowStatus
from lob.venues import make_decoder
from serve.bybit_stream import BookTopic, public_address
from serve.clock import AnchoredClock
from serve.feed import Feed, FeedConfig
from serve.reconnect import ReconnectPolicy
from serve.warmup import warm_up_rows

logger = logging.getLogger(__name__)

FLUSH_INTERVAL_NS = 500_000_000
"""Half of what a kill may cost, so that a busy machine's late timer does not make it more."""

_ONE_FILE = RotationPolicy(every_s=None, file_bytes=None)

_LOST = frozenset({RowStatus.GAP, RowStatus.CROSSED, RowStatus.MALFORMED, RowStatus.OVERFLOW})
_SOUND = frozenset(
    {RowStatus.ROW, RowStatus.SNAPSHOT, RowStatus.NO_ROW, RowStatus.ONE_SIDED, RowStatus.IGNORED}
)
_NO_SIGN_OF_LIFE = frozenset({RowStatus.NOT_JSON, RowStatus.NOT_BOOK, RowStatus.OTHER_STREAM})


class RecordingSummary(msgspec.Struct, frozen=True):
    """What a recording came to; `lost_books` counts the gaps and other ends of a sound sequence."""

    path: str
    files: int
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
    """Writes every frame down and watches the book, so that a lost one is asked for again at once.

    A `serve.feed.FrameConsumer`; raises CaptureError where the disk refuses. The book is that of the frames
    written and of nothing else, as a reader of the captures will have it: a lost connection does not touch
    it, and only what is made of it here, `awaits_snapshot`, says that it is out of date.
    """

    def __init__(self, writer: RotatingWriter, stall_ms: int) -> None:
        self.needs_resync = False
        self.awaits_snapshot = False
        """Whether the exchange's book is unknown until a snapshot comes."""
        self.stalls = 0
        self.statuses = dict.fromkeys(RowStatus, 0)
        """How many frames came to each status."""
        self.snapshots = 0
        self._writer = writer
        self._stall_ns = stall_ms * 1_000_000
        self._connected = False
        self._fresh_ns: int | None = None
        self._flushed_ns = 0

    def on_connected(self) -> None:
        """Begin anew: what the book was is past."""
        self._connected = True
        self._fresh_ns = None
        self.needs_resync = False
        self.awaits_snapshot = True

    def on_disconnected(self, reason: str) -> None:
        """The book is unknown until the next connection's snapshot."""
        self._connected = False
        self.needs_resync = False
        self.awaits_snapshot = False

    def on_frame(self, frame: bytes, receive_ns: int) -> None:
        """Write the frame, whatever it is, and see what it did to the book."""
        status = self._writer.record(receive_ns, frame)
        self.statuses[status] += 1
        if status not in _NO_SIGN_OF_LIFE:
            self._fresh_ns = receive_ns
        if status in _LOST:
            logger.warning(
                "the book is lost at update %d: %s", self._writer.rows.update_id, status.name.lower()
            )
            self.needs_resync = self.awaits_snapshot = True
        elif status in _SOUND and self.awaits_snapshot:
            message = self._writer.rows.message
            if isinstance(message, BookUpdate) and message.is_snapshot:
                self.needs_resync = self.awaits_snapshot = False
        if status is RowStatus.SNAPSHOT:
            self.snapshots += 1

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
            self.needs_resync = self.awaits_snapshot = True

    def resync_requested(self) -> None:
        """A new snapshot has been asked for."""
        self.needs_resync = False
        self._fresh_ns = None


@dataclass(frozen=True, kw_only=True)
class RecorderConfig:
    """What to record, from where, whereto, and for how long (None: until stopped).

    Whereto is either one file, `path`, or captures in turn below `root`, in the stream's own folder of
    `lob.captures.layout`, which the exchange's `category` names among others.
    """

    topic: BookTopic
    url: str
    instrument: Instrument
    stall_ms: int
    path: Path | None = None
    root: Path | None = None
    category: str = "linear"
    allow_plaintext: bool = False
    rotation: RotationPolicy = field(default_factory=RotationPolicy)
    seconds: float | None = None
    reconnect: ReconnectPolicy = field(default_factory=ReconnectPolicy)

    def __post_init__(self) -> None:
        if self.seconds is not None and not self.seconds > 0:
            raise InputError(f"seconds: {self.seconds} came, above 0 is allowed")
        if (self.path is None) == (self.root is None):
            raise InputError("path and root: one of the two is allowed, and needed")

    @property
    def directory(self) -> Path:
        """The folder that the captures come into."""
        if self.path is not None:
            return self.path.parent
        assert self.root is not None, "a configuration has a path or a root"
        topic = f"orderbook.{self.topic.depth}"
        return stream_directory(self.root, "bybit", self.category, self.topic.symbol, topic)


class Recorder:
    """One recording, from its first connection to its last closed file."""

    def __init__(self, config: RecorderConfig) -> None:
        """Create the folder where there is none, close what a killed recorder left there, begin a file.

        Raises InputError where the file exists, another recorder is at work in the folder or it cannot be
        made, CaptureError where a file cannot be.
        """
        directory = config.directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{directory}: cannot be created ({error.strerror})") from error
        warm_up_rows()
        self._config = config
        self._stopped = asyncio.Event()
        self._clock = AnchoredClock()
        with ExitStack() as held:
            if config.root is not None:
                held.enter_context(folder_lock(directory))
                for left in close_left(directory):
                    logger.warning("%s: closed, as its recorder was killed", left)
            self._writer = RotatingWriter(
                RowPath(make_decoder("bybit"), config.instrument, depth=config.topic.depth),
                depth=config.topic.depth,
                name_file=self._name_file,
                created_ns=self._clock.now_ns(),
                policy=_ONE_FILE if config.root is None else config.rotation,
                source=public_address(config.url),
                flush_ns=FLUSH_INTERVAL_NS,
            )
            held.enter_context(self._writer)
            self._first_path = self._writer.path
            self._consumer = RecordingConsumer(self._writer, config.stall_ms)
            self._feed = Feed(
                FeedConfig(
                    url=config.url, reconnect=config.reconnect, allow_plaintext=config.allow_plaintext
                ),
                {config.topic: self._consumer},
                self._clock,
            )
            self._held = held.pop_all()

    async def run(self) -> RecordingSummary:
        """Record until the time is up or `stop`; the files are whole afterwards.

        Where the feed or the disk fails for good the error is raised, and the last file stays a readable
        part.
        """
        began_ns = self._clock.now_ns()
        with self._held:
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

    def _name_file(self, receive_ns: int) -> Path:
        return self._config.path or recording_path(self._config.directory, receive_ns)

    def _summary(self, seconds: float) -> RecordingSummary:
        consumer, writer = self._consumer, self._writer
        return RecordingSummary(
            path=str(self._first_path if writer.files == 1 else self._config.directory),
            files=writer.files,
            frames=writer.frames,
            frame_bytes=self._feed.counters.bytes,
            file_bytes=writer.file_bytes,
            seconds=round(seconds, 3),
            snapshots=consumer.snapshots,
            gaps=consumer.statuses[RowStatus.GAP],
            lost_books=sum(consumer.statuses[status] for status in _LOST),
            stalls=consumer.stalls,
            resyncs=self._feed.counters.resyncs,
            connections=self._feed.counters.connections,
        )
