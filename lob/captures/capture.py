"""Opening a capture: its container and its kind of line by content, its frames one after another."""

import zipfile
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import zstandard

from lob.captures.bybit_lines import BybitLines
from lob.captures.containers import TruncatedError, bounded_lines, open_container
from lob.captures.frames import CapturedFrame, InstrumentHint, LineFormat, excerpt
from lob.captures.recording import PART_SUFFIX, Header, RecordingLines
from lob.captures.stamped_lines import StampedLines
from lob.errors import CaptureError, InputError

PEEKED_LINES = 64
"""How many lines are looked at to tell a file's format and its symbols."""

DAMAGE = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, zstandard.ZstdError)
"""What reading a damaged or foreign file raises (RuntimeError: an encrypted or unknown member of a zip)."""


class Capture:
    """One capture file, or several that continue each other; iterating yields its frames in order.

    Every iteration starts from the beginning and holds one line at a time. Where a file is cut or damaged it
    raises CaptureError naming file and line, after everything before that point has been yielded.
    A recording's file that states the book it begins with yields it as a snapshot first, unless the file
    before it is the one that it continues.
    """

    def __init__(self, paths: Iterable[Path | str]) -> None:
        self.paths = tuple(Path(path) for path in paths)
        if not self.paths:
            raise InputError("paths: none given; a capture is one file or more")
        formats = [_line_format(path) for path in self.paths]
        self.venue = formats[0].venue
        """The exchange whose messages the frames are: "bybit" or "binance"."""
        for path, line_format in zip(self.paths, formats, strict=True):
            if line_format.venue != self.venue:
                raise CaptureError(
                    f"{path} is a capture of {line_format.venue}, {self.paths[0]} one of {self.venue}; "
                    "files that continue each other are of one venue"
                )
        self.source = formats[0].source
        """Where the file says that its frames come from; empty where it does not say."""
        self.instruments = _merged(hint for line_format in formats for hint in line_format.instruments)
        """The symbols found at the start of the files, with their tick sizes where stated."""
        self.interrupted = False
        """After an iteration: whether it met a recording that its writer did not finish (a part file)."""

    def __iter__(self) -> Iterator[CapturedFrame]:
        self.interrupted = False
        before: Header | None = None
        for path in self.paths:
            line_format = _line_format(path)
            header = None
            if isinstance(line_format, RecordingLines):
                header = line_format.header
                if header.follows(before):
                    line_format.checkpoint = None
            before = header
            yield from self._frames(path, line_format)

    def _frames(self, path: Path, line_format: LineFormat) -> Iterator[CapturedFrame]:
        whole_lines = 0
        try:
            with open_container(path) as stream:
                for line in bounded_lines(stream):
                    try:
                        frame = line_format.frame(line)
                    except ValueError as error:
                        raise _damaged(path, whole_lines + 1, error) from error
                    whole_lines += 1
                    if frame is not None:
                        yield frame
        except TruncatedError as error:
            if path.suffix != PART_SUFFIX:
                raise _damaged(path, whole_lines + 1, error) from error
            self.interrupted = True
        except DAMAGE as error:
            raise _damaged(path, whole_lines + 1, error) from error


def open_capture(path: Path | str) -> Capture:
    """The capture in one file, its format found by its content.

    Our own recordings, Bybit frames a line each (plain, gzip, zstandard, or Bybit's archive zip) and
    Binance's combined streams (`<local timestamp> <json>`, plain or gzip). Raises CaptureError for anything
    else.
    """
    return Capture([path])


def open_captures(paths: Iterable[Path | str]) -> Capture:
    """Several files of one venue as one capture that continues from each to the next."""
    return Capture(paths)


def recording_header(path: Path) -> Header | None:
    """The header of one of our own recordings; None for a capture of another format.

    Raises CaptureError where the file holds no whole line.
    """
    line_format = _line_format(path)
    return line_format.header if isinstance(line_format, RecordingLines) else None


def _first_lines(path: Path) -> list[bytes]:
    """Up to PEEKED_LINES whole lines; damage after the first is left to the iteration that meets it."""
    if path.is_dir():
        raise CaptureError(f"{path} is a directory; expected a capture file")
    lines: list[bytes] = []
    try:
        with open_container(path) as stream:
            for line in islice(bounded_lines(stream), PEEKED_LINES):
                lines.append(line)  # noqa: PERF402 - what was read before an error must be kept
    except FileNotFoundError as error:
        raise CaptureError(f"{path}: no such file; expected a capture") from error
    except (TruncatedError, *DAMAGE) as error:
        if not lines:
            raise _damaged(path, 1, error) from error
    if not lines:
        raise CaptureError(f"{path}: line 1: expected a frame, got an empty file")
    return lines


def _line_format(path: Path) -> LineFormat:
    """A fresh reader for the lines of the file at `path`."""
    lines = _first_lines(path)
    try:
        if RecordingLines.recognises(lines[0]):
            return RecordingLines(lines)
        if StampedLines.recognises(lines[0]):
            return StampedLines(lines)
    except ValueError as error:
        raise _damaged(path, 1, error) from error
    if BybitLines.recognises(lines[0]):
        return BybitLines(lines)
    raise CaptureError(
        f"{path}: line 1: expected a recording's header, a frame of Bybit's public stream, "
        f"or '<Unix time> <JSON>' of Binance's, got {excerpt(lines[0])}"
    )


def _damaged(path: Path, line: int, error: Exception) -> CaptureError:
    if isinstance(error, TruncatedError | EOFError):
        reason = "the compressed data end here; expected more (the file was cut, or never finished)"
    elif isinstance(error, OSError) and error.strerror:
        reason = f"cannot be read ({error.strerror})"
    elif isinstance(error, ValueError):
        reason = str(error)
    else:
        reason = f"damaged compressed data ({error}); expected a whole gzip, zip or zstandard file"
    return CaptureError(f"{path}: line {line}: {reason}")


def _merged(hints: Iterable[InstrumentHint]) -> tuple[InstrumentHint, ...]:
    """One hint a symbol, the first that states a tick size where one does."""
    merged: dict[str, InstrumentHint] = {}
    for hint in hints:
        known = merged.get(hint.symbol)
        if known is None or known.tick_size is None:
            merged[hint.symbol] = hint
    return tuple(merged.values())
