"""The file around the lines: plain, gzip, zip or zstandard, told apart by its first bytes, read as a stream.

Nothing is ever expanded whole: what is held at a time is one read's worth and one line, whatever a file
claims.
"""

import gzip
import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

MAXIMUM_LINE_BYTES = 8 << 20
"""The longest line read; a snapshot of 5,000 levels a side is a tenth of it."""

MAXIMUM_ZSTD_WINDOW_BYTES = 1 << 27
ZSTD_READ_BYTES = 1 << 10
"""Compressed bytes expanded at a time: zstandard makes at most 32 MiB of them (128 KiB for every 4 bytes)."""

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")


class TruncatedError(Exception):
    """The stream ends in the middle of compressed data."""


class ZstdStream(io.RawIOBase):
    """The expanded bytes of a zstandard stream of one or more frames.

    Unlike the library's own reader it tells a stream that was cut (TruncatedError) from one that ended.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=MAXIMUM_ZSTD_WINDOW_BYTES)
        self._frame = self._decompressor.decompressobj()
        self._at_frame_start = True
        self._compressed = b""
        self._expanded = memoryview(b"")

    def readable(self) -> bool:
        """True: it is a stream to read."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # its caller is BufferedReader
        """Fill `buffer` with the next expanded bytes; 0 at the end. Raises TruncatedError and ZstdError."""
        while not self._expanded:
            chunk = self._compressed or self._file.read(ZSTD_READ_BYTES)
            if not chunk:
                if self._at_frame_start:
                    return 0
                raise TruncatedError
            self._compressed = b""
            self._at_frame_start = False
            self._expanded = memoryview(self._frame.decompress(chunk))
            if self._frame.eof:
                self._compressed = self._frame.unused_data
                self._frame = self._decompressor.decompressobj()
                self._at_frame_start = True
        count = min(len(buffer), len(self._expanded))
        buffer[:count] = self._expanded[:count]
        self._expanded = self._expanded[count:]
        return count


@contextmanager
def open_container(path: Path) -> Iterator[io.BufferedIOBase]:
    """The expanded bytes of the file at `path`.

    Raises OSError, zipfile.BadZipFile or ValueError where it cannot be opened; reading it raises these too,
    and EOFError, TruncatedError, zlib.error and zstandard.ZstdError.
    """
    with path.open("rb") as file:
        magic = file.peek(4)[:4]
        if magic[:2] == GZIP_MAGIC:
            with gzip.GzipFile(fileobj=file) as expanded:
                yield expanded
        elif magic == ZSTD_MAGIC:
            with ZstdStream(file) as stream:
                yield io.BufferedReader(stream)
        elif magic in ZIP_MAGICS:
            with zipfile.ZipFile(file) as archive:
                members = [member for member in archive.infolist() if not member.is_dir()]
                if len(members) != 1:
                    raise ValueError(f"expected a zip archive of one file, got one of {len(members)}")
                with archive.open(members[0]) as member:
                    yield io.BufferedReader(cast("io.RawIOBase", member))
        else:
            yield file


def bounded_lines(stream: io.BufferedIOBase) -> Iterator[bytes]:
    """The lines of `stream` without their endings.

    Raises ValueError for a line longer than MAXIMUM_LINE_BYTES and for a blank line before the end.
    """
    blank = False
    while line := stream.readline(MAXIMUM_LINE_BYTES + 1):
        if len(line) > MAXIMUM_LINE_BYTES:
            raise ValueError(f"expected lines of at most {MAXIMUM_LINE_BYTES} bytes, got a longer one")
        if blank:
            raise ValueError("expected a frame, got a blank line")
        content = line.rstrip(b"\r\n")
        if content:
            yield content
        else:
            blank = True
