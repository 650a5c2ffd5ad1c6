"""Where captures stand: `ROOT/<venue>/<category>/<symbol>/<topic>/<time>.jsonl.zst`, oldest name first."""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from lob.captures.recording import PART_SUFFIX
from lob.errors import CaptureError, InputError

RECORDING_SUFFIX = ".jsonl.zst"
LOCK_FILE = ".recorder.lock"
FETCH_LOCK_FILE = ".fetch.lock"
DAMAGED_SUFFIX = ".damaged"

_NAME = re.compile(r"(\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2})\.(\d{6})Z\b")

CAPTURE_SUFFIXES = (".zst", ".zip", ".gz", ".ndjson", ".jsonl")
"""What the captures of a folder end with; a file that is named itself may be called anything."""


def stream_directory(root: Path, venue: str, category: str, symbol: str, topic: str) -> Path:
    """The folder of one stream's captures."""
    return root / venue / category / symbol / topic


def recording_path(directory: Path, receive_ns: int) -> Path:
    """A file of `directory` named by the time of its first frame, and after every file that is there.

    `2026-11-21T05-26-40.123456Z.jsonl.zst`: UTC to the microsecond, with no character that a file system
    refuses. Where the clock was set back, or two files share a microsecond, the name is the microsecond after
    the newest one's: by name the files are always in the order in which they were recorded. Raises
    CaptureError where no later time can be named, or the folder cannot be read.
    """
    try:
        time_us = max(receive_ns // 1_000, _newest_us(directory) + 1)
    except OSError as error:
        raise CaptureError(f"{directory}: cannot be read ({error.strerror})") from error
    try:
        moment = datetime.fromtimestamp(time_us // 1_000_000, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise CaptureError(
            f"{directory}: no name comes after its newest file's; move the file of the year 9999 away"
        ) from error
    return directory / f"{moment:%Y-%m-%dT%H-%M-%S}.{time_us % 1_000_000:06d}Z{RECORDING_SUFFIX}"


def _newest_us(directory: Path) -> int:
    """The latest time that a file of `directory`, or what is left of one, is named by; -1 where none is."""
    newest = -1
    for path in directory.iterdir() if directory.is_dir() else ():
        match = _NAME.match(path.name)
        if match is not None:
            with suppress(ValueError):  # digits that are no time
                moment = datetime.strptime(match[1], "%Y-%m-%dT%H-%M-%S").replace(tzinfo=UTC)
                newest = max(newest, int(moment.timestamp()) * 1_000_000 + int(match[2]))
    return newest


def path_text(path: Path | str) -> str:
    """A path for people and for JSON: what cannot be printed, or is no text at all, by its escape."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(path))


def capture_files(paths: Iterable[Path], *, parts: bool = False) -> list[Path]:
    """The captures that `paths` name: files as they are, folders with all that is below them, by name.

    A folder's captures are those of CAPTURE_SUFFIXES that are not hidden, and with `parts` the part files.
    Raises InputError for a folder without a capture and CaptureError for a path that is not there.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise CaptureError(f"{path}: no such file; expected a capture or a folder of captures")
        if not path.is_dir():
            files.append(path)
            continue
        found = sorted(_below(path, parts=parts), key=_order)
        if not found:
            raise InputError(f"{path}: no capture came to light below it; a folder of captures is needed")
        files += found
    return files


def _below(directory: Path, *, parts: bool) -> Iterator[Path]:
    for path in directory.rglob("*"):
        hidden = any(name.startswith(".") for name in path.relative_to(directory).parts)
        if hidden or not path.is_file():
            continue
        if path.suffix in CAPTURE_SUFFIXES or (parts and path.suffix == PART_SUFFIX):
            yield path


def _order(path: Path) -> tuple[Path, str]:
    """By folder, then by the time in the name; a part file stands where it will once it is closed."""
    return path.parent, path.name.removesuffix(PART_SUFFIX)
