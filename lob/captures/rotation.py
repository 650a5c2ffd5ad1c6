"""A recording in several files that continue one another, each whole in itself, its index beside it."""

import secrets
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from lob.captures.checkpoint import book_checkpoint
from lob.captures.frames import InstrumentHint
from lob.captures.index import CaptureIndex, write_index
from lob.captures.inspection import CaptureTally
from lob.captures.recording import Checkpoint, RecordingWriter
from lob.errors import InputError
from lob.row_status import RowStatus
from lob.rows import RowPath


@dataclass(frozen=True, kw_only=True)
class RotationPolicy:
    """When a recording goes on in a new file; None: never for that reason.

    `every_s` counts in whole periods of UTC, so that an hour's file ends with the hour; `file_bytes` are
    compressed ones and may be passed by what one flush holds.
    """

    every_s: int | None = 3_600
    file_bytes: int | None = 256 << 20

    def __post_init__(self) -> None:
        for name, value in (("every_s", self.every_s), ("file_bytes", self.file_bytes)):
            if value is not None and value < 1:
                raise InputError(f"{name}: {value} came, 1 or more is allowed")


class RotatingWriter:
    """Writes one stream's frames down, follows its book with `rows`, and begins new files as the policy says.

    `rows` must see nothing but these frames, so that the book is at every moment the one a reader of the
    files has; where it is in sequence a new file states it, and where it is not `rows` forgets what it kept,
    so that it has what a reader of the new file alone has. A finished file reaches the disk and gets name and
    index on a thread of its own; there is one such file at a time. One into which nothing of the market came
    is of no use to anybody, and would keep its name from the next recording: it is removed.
    Usable as a context manager; an exception inside the `with` block abandons the recording.
    Raises CaptureError where the disk refuses: what was flushed until then stays readable in the part file.
    """

    def __init__(
        self,
        rows: RowPath,
        *,
        depth: int,
        name_file: Callable[[int], Path],
        created_ns: int,
        policy: RotationPolicy,
        source: str = "",
        flush_ns: int = 1_000_000_000,
    ) -> None:
        self.rows = rows
        self.files = 0
        """Number of files begun that have not been removed."""
        self.frames = 0
        """Number of frames written, over all files, removed ones too."""
        self.holds_book = False
        """Whether one of the finished files holds a book."""
        self.counted_as = RowStatus.NOT_BOOK
        """What the index counts the last frame as."""
        self._former_bytes = 0
        self._depth = depth
        self._name_file = name_file
        self._policy = policy
        self._venue: Literal["bybit", "binance"] = "binance" if rows.decoder.venue == "binance" else "bybit"
        self._source = source
        self._flush_ns = flush_ns
        self._recording = secrets.token_hex(8)
        self._closer = ThreadPoolExecutor(1, thread_name_prefix="capture-close")
        self._closing: Future[None] | None = None
        self.first_path = self._begin(created_ns, None)
        """The first file that has not been removed, as it is or will be called."""

    @property
    def path(self) -> Path:
        """The file that is being written, as it will be called."""
        return self._writer.path

    @property
    def file_bytes(self) -> int:
        """Compressed bytes written, over all files that have not been removed."""
        return self._former_bytes + self._writer.file_bytes

    def record(self, receive_ns: int, frame: bytes) -> RowStatus:
        """Write the frame, whatever it is, then see what it does to the book."""
        if self._is_due(receive_ns):
            self._rotate(receive_ns)
        self._writer.write(receive_ns, frame)
        self.frames += 1
        status = self.rows.on_frame(frame, receive_ns)
        self.counted_as = self._tally.add(receive_ns, frame, self.rows, status)
        return status

    def flush(self) -> None:
        """Hand all that was written to the operating system; raises what became of the file before, too."""
        self._writer.flush()
        if self._closing is not None and self._closing.done():
            self._await_closing()

    def close(self) -> None:
        """Finish the last file; returns once all files are on the disk under their names.

        Where nothing of the market came there is no file.
        """
        try:
            self._finish()
            self._await_closing()
        finally:
            self._closer.shutdown()

    def abandon(self) -> None:
        """Leave the last file a part, complete as far as the disk lets."""
        try:
            if self._index().holds_market:
                self._writer.abandon()
            else:
                self._discard()
            self._await_closing()
        finally:
            self._closer.shutdown()

    def _is_due(self, receive_ns: int) -> bool:
        policy, first_ns = self._policy, self._tally.first_receive_ns
        if first_ns is None:
            return False
        if policy.file_bytes is not None and self._writer.file_bytes >= policy.file_bytes:
            return True
        if policy.every_s is None:
            return False
        period_ns = policy.every_s * 1_000_000_000
        return receive_ns // period_ns > first_ns // period_ns

    def _rotate(self, receive_ns: int) -> None:
        checkpoint = book_checkpoint(self.rows, self._depth, self._tally.last_receive_ns or receive_ns)
        if checkpoint is None:
            self.rows.reset()
        self._finish()
        self._former_bytes += self._writer.file_bytes
        path = self._begin(receive_ns, checkpoint)
        if self.files == 1:
            self.first_path = path

    def _begin(self, created_ns: int, checkpoint: Checkpoint | None) -> Path:
        instrument = self.rows.instrument
        self._writer = RecordingWriter(
            self._name_file(created_ns),
            venue=self._venue,
            instruments=[InstrumentHint(symbol=instrument.symbol, tick_size=instrument.tick_size)],
            created_ns=created_ns,
            source=self._source,
            recording=self._recording,
            part=self.files,
            checkpoint=checkpoint,
            flush_ns=self._flush_ns,
        )
        self.files += 1
        checkpoint_update_id = None if checkpoint is None else self.rows.book.update_id
        self._tally = CaptureTally(checkpoint_update_id)
        return self._writer.path

    def _finish(self) -> None:
        """Write the end of the file, and hand it to the thread that waits for the disk."""
        writer = self._writer
        if not self._index().holds_market:
            self._discard()
            return
        writer.finish()
        self._await_closing()
        index = self._index()
        self.holds_book |= index.holds_book
        self._closing = self._closer.submit(_commit, writer, index)

    def _index(self) -> CaptureIndex:
        """The index of the file that is being written, as far as it has come."""
        writer = self._writer
        return self._tally.index(
            writer.path,
            file_bytes=writer.file_bytes,
            sha256=writer.sha256,
            venue=self._venue,
            instrument=self.rows.instrument,
            header=writer.header,
        )

    def _discard(self) -> None:
        """Remove the file that is being written."""
        self._writer.discard()
        self.files -= 1

    def _await_closing(self) -> None:
        """Wait for the file before; raises what went wrong with it."""
        closing, self._closing = self._closing, None
        if closing is not None:
            closing.result()

    def __enter__(self) -> "RotatingWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


def _commit(writer: RecordingWriter, index: CaptureIndex) -> None:
    writer.commit()
    write_index(writer.path, index)
