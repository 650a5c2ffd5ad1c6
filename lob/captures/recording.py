r"""Our own recording format: one zstandard-compressed file of JSON lines, a header object first.

    {"format":"mambalob-recording","version":1,"venue":"bybit","instruments":[{"symbol":"BTCUSDT",
     "tick_size":"0.10"}],"created_ns":1786191748636000000,"source":"wss://..."}
    {"receive_ns":1786191748637000000,"frame":"{\"topic\":..."}

A frame is kept verbatim as a JSON string, or base64 under `frame_base64` where its bytes are no UTF-8.
Whatever has been flushed can be read back, also from a file whose writer was killed.

A recording of several files names itself and the file's place in the header (`recording`, `part`), and from
the second file on states the book as it stood where the file begins (`checkpoint`): a snapshot of the
recorder's own making, which is read only where the file is not read right after the one before it.
"""

import base64
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal

import msgspec
import zstandard

from lob.captures.file_lock import lock_file
from lob.captures.frames import CapturedFrame, InstrumentHint, excerpt
from lob.errors import CaptureError, InputError

FORMAT = "mambalob-recording"
VERSION = 1
PART_SUFFIX = ".part"
"""What the name of a recording ends with until it is closed."""

COMPRESSION_LEVEL = 3
FLUSH_BYTES = 1 << 20
"""Frames of this many bytes are flushed although their time is not up: it bounds what the writer holds."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The book before a file's first frame, as a snapshot in the venue's shape; no frame that was sent."""

    receive_ns: int
    frame: str


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The first line of a recording. `created_ns` is Unix time; `source` says where the frames come from.

    `recording` is the same in the files of one recording, and `part` counts them from 0.
    """

    format: Literal["mambalob-recording"]
    version: int
    venue: Literal["bybit", "binance"]
    instruments: tuple[InstrumentHint, ...]
    created_ns: int
    source: str = ""
    recording: str = ""
    part: int = 0
    checkpoint: Checkpoint | None = None

    def follows(self, before: "Header | None") -> bool:
        """Whether the file is the one right after that of `before`, so that its checkpoint tells nothing."""
        return (
            before is not None and self.recording == before.recording != "" and self.part == before.part + 1
        )


class _Line(msgspec.Struct, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    receive_ns: int
    frame: str | None = None
    frame_base64: str | None = None


_decode_line = msgspec.json.Decoder(_Line).decode
_encode = msgspec.json.Encoder().encode


class RecordingLines:
    """The line format of a recording, header included."""

    def __init__(self, first_lines: list[bytes]) -> None:
        self.header = header = read_header(first_lines[0])
        self.venue: str = header.venue
        self.instruments = header.instruments
        self.source = header.source
        self.checkpoint = header.checkpoint
        """What `frame` answers for the header; whoever has read the file before this one sets it to None."""
        self._past_header = False

    @staticmethod
    def recognises(line: bytes) -> bool:
        """Whether `line` is, or tries to be, a recording's header."""
        return line.startswith(b"{") and f'"{FORMAT}"'.encode() in line[:200]

    def frame(self, line: bytes) -> CapturedFrame | None:
        """The frame of one line; raises ValueError for a line of another shape.

        For the header it is the checkpoint, or None.
        """
        if not self._past_header:
            self._past_header = True
            if self.checkpoint is None:
                return None
            return CapturedFrame(self.checkpoint.receive_ns, self.checkpoint.frame.encode())
        try:
            entry = _decode_line(line)
            if entry.frame is not None and entry.frame_base64 is None:
                return CapturedFrame(entry.receive_ns, entry.frame.encode())
            if entry.frame_base64 is not None and entry.frame is None:
                return CapturedFrame(entry.receive_ns, base64.b64decode(entry.frame_base64, validate=True))
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"expected a recorded frame with its receive_ns, got {excerpt(line)} ({error})"
            ) from error
        raise ValueError(f"expected one of frame and frame_base64 beside receive_ns, got {excerpt(line)}")


def read_header(line: bytes) -> Header:
    """The header in a recording's first line; raises ValueError where it is none that this program reads."""
    try:
        header = msgspec.json.decode(line, type=Header)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ValueError(f"expected the header of a recording, got {excerpt(line)} ({error})") from error
    if header.version != VERSION:
        raise ValueError(f"expected a recording of format version {VERSION}, got version {header.version}")
    return header


class RecordingWriter:
    """Writes one recording; usable as a context manager.

    It writes to `<path>.part`, which `close` renames to `path`; after an exception inside the `with` block
    the part file stays, complete up to there and readable. Frames reach the operating system once `flush_ns`
    of data time have passed since the last flush (a caller whose feed can fall silent calls `flush` on a
    timer as well), or sooner where they are large.
    Raises InputError where `path` or its part file exists, CaptureError where the disk refuses: then the
    part file is closed, readable up to its last whole block.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        venue: Literal["bybit", "binance"],
        instruments: Sequence[InstrumentHint],
        created_ns: int,
        source: str = "",
        recording: str = "",
        part: int = 0,
        checkpoint: Checkpoint | None = None,
        flush_ns: int = 1_000_000_000,
    ) -> None:
        self.path = Path(path)
        self.part_path = self.path.with_name(self.path.name + PART_SUFFIX)
        self.frames = 0
        """Number of frames written so far."""
        self.file_bytes = 0
        """Number of compressed bytes handed to the operating system so far."""
        self.header = Header(
            format="mambalob-recording",
            version=VERSION,
            venue=venue,
            instruments=tuple(instruments),
            created_ns=created_ns,
            source=source,
            recording=recording,
            part=part,
            checkpoint=checkpoint,
        )
        self._flush_ns = flush_ns
        self._flushed_at_ns: int | None = None
        self._waiting_bytes = 0
        self._finished = False
        self._digest = hashlib.sha256()
        compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL, write_checksum=True)
        self._compressor = compressor.compressobj()
        for taken in (self.path, self.part_path):
            if taken.exists():
                raise InputError(f"{taken} exists; a recording never overwrites a file, give another name")
        try:
            self._file = self.part_path.open("xb", buffering=0)
        except OSError as error:
            raise CaptureError(f"{self.part_path}: cannot be created ({error.strerror})") from error
        lock_file(self._file)  # so that nobody takes it for what a killed recorder left
        self._append(_encode(self.header))
        self.flush()

    @property
    def sha256(self) -> str:
        """The checksum of the file as written so far, in hex."""
        return self._digest.hexdigest()

    def write(self, receive_ns: int, frame: bytes) -> None:
        """Append one frame as it came at `receive_ns`, Unix time."""
        try:
            entry = _Line(receive_ns, frame=frame.decode())
        except UnicodeDecodeError:
            entry = _Line(receive_ns, frame_base64=base64.b64encode(frame).decode())
        self._append(_encode(entry))
        self.frames += 1
        if self._flushed_at_ns is None:
            self._flushed_at_ns = receive_ns
        elapsed_ns = receive_ns - self._flushed_at_ns
        if elapsed_ns >= self._flush_ns or elapsed_ns < 0 or self._waiting_bytes >= FLUSH_BYTES:
            self.flush()
            self._flushed_at_ns = receive_ns

    def flush(self) -> None:
        """Hand all that was written to the operating system, so that it survives a kill of this process."""
        if self._waiting_bytes:
            self._put(self._compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
            self._waiting_bytes = 0

    def finish(self) -> None:
        """Write the end of the file, which is whole then and has its name still to get; see `commit`."""
        if not self._finished and not self._file.closed:
            self._put(self._compressor.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH))
            self._finished = True

    def commit(self) -> None:
        """Wait until a finished file is on the disk, then give it its name; from any thread.

        Raises InputError where somebody took the name meanwhile.
        """
        if not self._finished or self._file.closed:
            return
        with self._file:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                raise CaptureError(f"{self.part_path}: cannot be written ({error.strerror})") from error
        if self.path.exists():
            raise InputError(f"{self.path} appeared while recording; the recording stays at {self.part_path}")
        try:
            self.part_path.rename(self.path)
        except OSError as error:
            raise CaptureError(f"{self.part_path}: cannot get its name ({error.strerror})") from error

    def close(self) -> None:
        """Finish the file and give it its name; raises InputError where somebody took the name meanwhile."""
        self.finish()
        self.commit()

    def abandon(self) -> None:
        """Finish the file where the disk lets, and leave it at its part's name."""
        self.finish()
        self._file.close()

    def discard(self) -> None:
        """Remove the part file, so that `file_bytes` are none."""
        self._file.close()
        self.file_bytes = 0
        try:
            self.part_path.unlink(missing_ok=True)
        except OSError as error:
            raise CaptureError(f"{self.part_path}: cannot be removed ({error.strerror})") from error

    def _append(self, line: bytes) -> None:
        self._waiting_bytes += len(line)
        self._put(self._compressor.compress(line + b"\n"))

    def _put(self, compressed: bytes) -> None:
        rest = memoryview(compressed)
        try:
            while rest:
                count = self._file.write(rest)
                self._digest.update(rest[:count])
                self.file_bytes += count
                rest = rest[count:]
        except (OSError, ValueError) as error:
            self._file.close()
            reason = getattr(error, "strerror", None) or "it is closed"
            raise CaptureError(f"{self.part_path}: cannot be written ({reason})") from error

    def __enter__(self) -> "RecordingWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()
