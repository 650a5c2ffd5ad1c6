"""The recorder: an exchange's frames as they come, into captures, their sequence checked on the way."""

import asyncio
import logging
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from inference.folder_lock import folder_lock
from inference.rehearsal import warm_up_rows
from lob.bybit import book_topic as bybit_topic
from lob.captures.layout import path_text, recording_path, stream_directory
from lob.captures.rotation import RotatingWriter, RotationPolicy
from lob.captures.salvage import close_left
from lob.errors import InputError
from lob.instrument import Instrument
from lob.rows import RowPath
from lob.venues import Venue, make_decoder
from serve.bybit_stream import public_address
from serve.clock import AnchoredClock
from serve.feed import Feed
from serve.feed_config import FeedConfig
from serve.feed_policies import ResyncPolicy
from serve.frame_consumer import FrameConsumer
from serve.instrument_cache import InstrumentInfo
from serve.instrument_watch import ASK_TIMEOUT_S, InstrumentWatch
from serve.instruments import find_instrument
from serve.reconnect import ReconnectPolicy
from serve.recording_consumer import FLUSH_INTERVAL_NS, RecordingConsumer, TradeRecordingConsumer
from serve.venue_stream import Topic
from serve.venue_topics import book_topic, trade_topic, venue_stream

logger = logging.getLogger(__name__)

_ONE_FILE = RotationPolicy(every_s=None, file_bytes=None)


class RecordingSummary(msgspec.Struct, frozen=True):
    """What a recording came to; `lost_books` counts the gaps and other ends of a sound sequence.

    `files` are those that stayed: one into which nothing of the market came does not. `holds_book` says
    whether a book stands in any of them.
    """

    path: str
    files: int
    frames: int
    frame_bytes: int
    file_bytes: int
    seconds: float
    holds_book: bool
    snapshots: int
    trades: int
    gaps: int
    lost_books: int
    stalls: int
    resyncs: int
    connections: int


@dataclass(frozen=True, kw_only=True)
class RecorderConfig:
    """What to record, from where, whereto, and for how long (None: until stopped).

    `trades` records the symbol's public trades into the same files, frame by frame as they come between the
    book's. Whereto is either one file, `path`, or captures in turn below `root`, in the stream's own folder
    of `lob.captures.layout`, which the exchange's `category` names among others. `depth` is that of Bybit's
    topic; Binance sends the whole book. `watch_instrument` has the exchange asked again where prices come off
    the tick grid; a changed tick size ends the recording.
    """

    url: str
    instrument: Instrument
    stall_ms: int
    venue: Venue = "bybit"
    depth: int = 50
    trades: bool = False
    path: Path | None = None
    root: Path | None = None
    category: str = "linear"
    allow_plaintext: bool = False
    watch_instrument: bool = False
    rotation: RotationPolicy = field(default_factory=RotationPolicy)
    seconds: float | None = None
    reconnect: ReconnectPolicy = field(default_factory=ReconnectPolicy)
    resync: ResyncPolicy = field(default_factory=ResyncPolicy)

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
        symbol = self.instrument.symbol
        topic = (
            bybit_topic(self.depth, symbol).removesuffix(f".{symbol}") if self.venue == "bybit" else "depth"
        )
        return stream_directory(self.root, self.venue, self.category, symbol, topic)


class Recorder:
    """One recording, from its first connection to its last closed file."""

    def __init__(self, config: RecorderConfig) -> None:
        """Create the folder where there is none, close what a killed recorder left there, begin a file.

        Raises InputError where the file exists, another recorder is at work in the folder or it cannot be
        made, CaptureError where a file cannot be.
        """
        symbol = config.instrument.symbol
        book = book_topic(config.venue, symbol, config.depth)
        venue = venue_stream(config.venue, config.url, config.category)
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
                RowPath(
                    make_decoder(config.venue),
                    config.instrument,
                    window_length=1,
                    depth=config.depth if config.venue == "bybit" else None,
                ),
                depth=config.depth,
                name_file=self._name_file,
                created_ns=self._clock.now_ns(),
                policy=_ONE_FILE if config.root is None else config.rotation,
                source=public_address(config.url),
                flush_ns=FLUSH_INTERVAL_NS,
            )
            held.enter_context(self._writer)
            self._consumer = RecordingConsumer(self._writer, config.stall_ms)
            consumers: dict[Topic, FrameConsumer] = {book: self._consumer}
            self._trades: TradeRecordingConsumer | None = None
            if config.trades:
                trades = trade_topic(config.venue, symbol, config.category)
                consumers[trades] = self._trades = TradeRecordingConsumer(self._writer, trades, venue)
            self._feed = Feed(
                FeedConfig(
                    url=config.url,
                    reconnect=config.reconnect,
                    resync=config.resync,
                    allow_plaintext=config.allow_plaintext,
                ),
                consumers,
                self._clock,
                venue=venue,
            )
            self._instrument_watch = InstrumentWatch(
                {config.instrument: self._consumer} if config.watch_instrument else {}, self._ask_instrument
            )
            self._held = held.pop_all()

    async def run(self) -> RecordingSummary:
        """Record until the time is up or `stop`; the files are whole afterwards.

        Where the feed or the disk fails for good, or the tick size has changed, the error is raised, and the
        last file stays a readable part. Either way a file into which nothing of the market came, as after a
        refused subscription, is removed.
        """
        began_ns = self._clock.now_ns()
        with self._held:
            feed = asyncio.create_task(self._feed.run(), name="feed")
            watch = asyncio.create_task(self._instrument_watch.run(), name="instrument-watch")
            stopped = asyncio.create_task(self._stopped.wait(), name="stop")
            tasks = (feed, watch, stopped)
            try:
                await asyncio.wait(tasks, timeout=self._config.seconds, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            for task in (feed, watch):
                if not task.cancelled():
                    task.result()
        return self._summary((self._clock.now_ns() - began_ns) / 1e9)

    def stop(self) -> None:
        """End the recording in good order."""
        self._stopped.set()

    async def _ask_instrument(self, symbol: str) -> InstrumentInfo:
        config = self._config
        return await asyncio.to_thread(
            find_instrument,
            config.url,
            config.category,
            symbol,
            venue=config.venue,
            timeout_s=ASK_TIMEOUT_S,
        )

    def _name_file(self, receive_ns: int) -> Path:
        return self._config.path or recording_path(self._config.directory, receive_ns)

    def _summary(self, seconds: float) -> RecordingSummary:
        consumer, writer = self._consumer, self._writer
        return RecordingSummary(
            path=path_text(writer.first_path if writer.files == 1 else self._config.directory),
            files=writer.files,
            frames=writer.frames,
            frame_bytes=self._feed.counters.bytes,
            file_bytes=writer.file_bytes,
            seconds=round(seconds, 3),
            holds_book=writer.holds_book,
            snapshots=consumer.snapshots,
            trades=0 if self._trades is None else self._trades.trades,
            gaps=consumer.gaps,
            lost_books=consumer.lost_books,
            stalls=consumer.stalls,
            resyncs=self._feed.counters.resyncs,
            connections=self._feed.counters.connections,
        )
