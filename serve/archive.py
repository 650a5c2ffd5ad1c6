"""Bybit's public archive of order books, a zip a day, into the folders that recordings go to.

`<base>/<category>/<symbol>/<date>_<symbol>_ob<depth>.data.zip`: 500 levels a side every 100 ms until
2025-08-20, 200 levels from the day after. A day is UTC's; it begins with a snapshot, and may end with the
next day's. Source: Bybit's "Historical market data" page, whose links these are.
"""

import logging
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from inference.capture_instrument import capture_instrument
from inference.folder_lock import folder_lock
from lob.captures import open_capture
from lob.captures.index import CaptureIndex, read_index, write_index
from lob.captures.inspection import inspect_capture
from lob.captures.layout import FETCH_LOCK_FILE, stream_directory
from lob.captures.recording import PART_SUFFIX
from lob.errors import CaptureError, InputError
from serve.bybit_stream import CATEGORIES, check_symbol
from serve.resumable_download import Download, DownloadPolicy, NotThereError
from serve.venue_connection import is_this_machine

logger = logging.getLogger(__name__)

ARCHIVE_URL = "https://quote-saver.bycsi.com/orderbook"
DEPTHS = (500, 200, 1000)
EARLIEST_DAY = date(2020, 1, 1)
"""The exchange's USDT markets are of that year; an earlier day is a slip of the hand."""

FIRST_DAY_OF_200 = date(2025, 8, 21)

_DAY_MS = 86_400_000
_BEFORE_DAY_MS, _AFTER_DAY_MS = 60_000, 3_600_000
"""How far a file's times may lie outside its day."""


@dataclass(frozen=True, kw_only=True)
class ArchiveDay:
    """One day of one symbol's book at one depth; raises InputError for one that the archive cannot have."""

    category: str
    symbol: str
    day: date
    depth: int

    def __post_init__(self) -> None:
        check_symbol(self.symbol)
        if self.category not in CATEGORIES:
            raise InputError(f"category: {self.category!r} came, {', '.join(CATEGORIES)} are allowed")
        if self.depth not in DEPTHS:
            raise InputError(f"depth: {self.depth} came, {', '.join(map(str, DEPTHS))} are allowed")

    @property
    def member(self) -> str:
        """The name of the file within the zip."""
        return f"{self.day:%Y-%m-%d}_{self.symbol}_ob{self.depth}.data"

    def url(self, base_url: str) -> str:
        """Where the archive keeps it."""
        return f"{base_url.rstrip('/')}/{self.category}/{self.symbol}/{self.member}.zip"

    def path(self, root: Path) -> Path:
        """Where it goes."""
        topic = f"orderbook.{self.depth}"
        return stream_directory(root, "bybit", self.category, self.symbol, topic) / f"{self.member}.zip"


class FetchedDay(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one day: "fetched", "present" (from an earlier run), or "missing" from the archive."""

    day: str
    status: str
    depth: int | None = None
    path: str = ""
    file_bytes: int = 0
    resumed_bytes: int = 0
    requests: int = 0
    frames: int = 0
    gaps: int = 0


def check_base_url(base_url: str) -> str:
    """`base_url` itself; raises InputError where it is no HTTPS address, or HTTP on this machine."""
    try:
        parts = urlsplit(base_url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not (parts.scheme == "https" or (parts.scheme == "http" and is_this_machine(base_url))):
        raise InputError(
            f"base_url: {base_url!r} came; https://... is allowed, http:// on this machine alone"
        )
    return base_url


def days_between(first: date, last: date, *, today: date) -> list[date]:
    """Every day from `first` to `last`, both included.

    Raises InputError where `last` comes first, or the archive cannot have one of them: it holds nothing from
    before `EARLIEST_DAY` nor after `today`, UTC's.
    """
    if last < first:
        raise InputError(f"days: from {first} to {last} came; the last is not allowed before the first")
    if first < EARLIEST_DAY or last > today:
        raise InputError(
            f"days: from {first} to {last} came; {EARLIEST_DAY} to {today}, today in UTC, are allowed"
        )
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def likely_depths(day: date) -> tuple[int, ...]:
    """The depths that the archive may have of a day, the likelier first."""
    return (200, 500) if day >= FIRST_DAY_OF_200 else (500, 200)


def fetch_days(
    *,
    category: str,
    symbol: str,
    days: list[date],
    depth: int | None,
    root: Path,
    base_url: str = ARCHIVE_URL,
    policy: DownloadPolicy | None = None,
) -> Iterator[FetchedDay]:
    """Fetch one day after the other; where `depth` is None, at the depth that the archive has of it.

    Raises InputError for a setting that is not allowed, CaptureError where a download fails for good, the
    archive's file is damaged, or the disk refuses; what was fetched before stays.
    """
    check_base_url(base_url)
    for day in days:
        fetched: FetchedDay | None = None
        for of_depth in likely_depths(day) if depth is None else (depth,):
            archived = ArchiveDay(category=category, symbol=symbol, day=day, depth=of_depth)
            fetched = fetch_day(archived, root, base_url, policy or DownloadPolicy())
            if fetched is not None:
                break
        yield fetched or FetchedDay(day=day.isoformat(), status="missing", depth=depth)


def fetch_day(archived: ArchiveDay, root: Path, base_url: str, policy: DownloadPolicy) -> FetchedDay | None:
    """One day of the archive in its place below `root`, proven whole, with its index; None where it has none.

    A part from an earlier run is gone on with, and a file that is there is not asked for again.
    """
    path = archived.path(root)
    folders = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path.parent}: cannot be created ({error.strerror})") from error
    with folder_lock(path.parent, FETCH_LOCK_FILE):
        if path.exists():
            index = read_index(path)
            if index is None:  # stopped between the name and the index
                index = check_day(path, archived)
                write_index(path, index)
            if index.bytes != path.stat().st_size:
                raise CaptureError(
                    f"{path}: {path.stat().st_size:,} bytes are there, its index says {index.bytes:,}; "
                    "move it away to fetch it again"
                )
            return _fetched(archived, "present", path, index)
        part = path.with_name(path.name + PART_SUFFIX)
        download = Download(archived.url(base_url), part, policy)
        try:
            index = _downloaded(download, part, archived)
        except NotThereError:
            logger.info("%s is not in the archive", archived.url(base_url))
        else:
            part.rename(path)
            index = msgspec.structs.replace(index, file=path.name)
            write_index(path, index)
            return _fetched(archived, "fetched", path, index, download)
    _remove_if_empty(path.parent, folders)
    return None


def _downloaded(download: Download, part: Path, archived: ArchiveDay) -> CaptureIndex:
    """Download, and once more from nothing where pieces that came apart do not fit together."""
    download.run()
    try:
        return check_day(part, archived)
    except CaptureError as error:
        part.unlink()
        if not download.counters.resumed_bytes and download.counters.requests == 1:
            raise
        logger.warning("%s; fetching it anew", error)
    download.run()
    try:
        return check_day(part, archived)
    except CaptureError:
        part.unlink()
        raise


def check_day(path: Path, archived: ArchiveDay) -> CaptureIndex:
    """The index of an archive's file, read from end to end; raises CaptureError where it is not that day.

    Its checksum within the zip holds, each line is JSON, the first is a snapshot of the book and the times
    are the day's. Gaps in the exchange's own sequence are the index's to tell.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise CaptureError(f"{path}: no whole zip file ({error})") from error
    if members != [archived.member]:
        raise CaptureError(
            f"{path}: a zip of {archived.member} is expected, one of {', '.join(members)} came"
        )
    try:
        instrument = capture_instrument(open_capture(path)).instrument
    except InputError as error:
        raise CaptureError(f"{path}: {error}") from error
    inspection = inspect_capture(path, instrument)
    index = inspection.index
    if inspection.damage:
        raise CaptureError(inspection.damage)
    if index.snapshots == 0 or index.waiting:
        raise CaptureError(f"{path}: a snapshot is expected first, {index.waiting:,} changes came before one")
    if index.symbol != archived.symbol or index.depth != archived.depth:
        raise CaptureError(
            f"{path}: the book of {archived.symbol} at depth {archived.depth} is expected, "
            f"{index.symbol} at depth {index.depth} came"
        )
    start = datetime(archived.day.year, archived.day.month, archived.day.day, tzinfo=UTC)
    start_ms = int(start.timestamp() * 1000)
    first_ms, last_ms = (index.first_receive_ns or 0) // 1_000_000, (index.last_receive_ns or 0) // 1_000_000
    if first_ms < start_ms - _BEFORE_DAY_MS or last_ms > start_ms + _DAY_MS + _AFTER_DAY_MS:
        raise CaptureError(
            f"{path}: times of {archived.day} are expected, "
            f"{_printed_time(first_ms)} to {_printed_time(last_ms)} came"
        )
    return index


def _fetched(
    archived: ArchiveDay, status: str, path: Path, index: CaptureIndex, download: Download | None = None
) -> FetchedDay:
    return FetchedDay(
        day=archived.day.isoformat(),
        status=status,
        depth=archived.depth,
        path=str(path),
        file_bytes=index.bytes,
        resumed_bytes=download.counters.resumed_bytes if download else 0,
        requests=download.counters.requests if download else 0,
        frames=index.frames,
        gaps=index.gaps,
    )


def _remove_if_empty(directory: Path, made: list[Path]) -> None:
    """Take away the folders that were made for a day which the archive does not have."""
    if directory not in made:
        return
    (directory / FETCH_LOCK_FILE).unlink(missing_ok=True)
    for folder in made:
        if any(folder.iterdir()):
            return
        folder.rmdir()


def _printed_time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
