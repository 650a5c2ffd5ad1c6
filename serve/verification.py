"""Is a capture whole: read from end to end, held against its index, and against the file it continues."""

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from inference.capture_instrument import capture_instrument
from lob.captures import open_capture
from lob.captures.file_lock import is_locked
from lob.captures.index import CaptureIndex, missing_updates, read_index
from lob.captures.inspection import Inspection, inspect_capture, rows_digest
from lob.captures.layout import FETCH_LOCK_FILE, LOCK_FILE, capture_files, path_text
from lob.captures.recording import PART_SUFFIX
from lob.errors import MambalobError

_TOLD_BY_WRITER = ("salvaged", "damage")
"""Fields of an index that do not follow from the file."""


class FileReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one file: `faults` say why it is not whole, `breaks` where its book was lost."""

    path: str
    faults: tuple[str, ...]
    breaks: tuple[str, ...]
    notes: tuple[str, ...]
    index: CaptureIndex | None
    """Counted now, from the file; after the one it continues where it has no book of its own."""

    def is_whole(self, *, allow_gaps: bool) -> bool:
        """Whether nothing is wrong; with `allow_gaps` a sequence that broke where it was recorded is not."""
        return not self.faults and (allow_gaps or not self.breaks)


def verify_captures(
    paths: Sequence[Path], on_report: Callable[[FileReport], None] | None = None
) -> list[FileReport]:
    """One report for each capture that `paths` name, folders with all below them, by name.

    A part file that is being written now is left out of a folder's. Raises InputError or CaptureError where
    a path names nothing.
    """
    reports: list[FileReport] = []
    before: _Former | None = None
    for path in capture_files(paths, parts=True):
        if path.suffix == PART_SUFFIX and path not in paths and _is_being_written(path):
            continue
        if before is not None and before.path.parent != path.parent:
            before = None
        report, inspection = _verify(path, before)
        before = None if inspection is None else _Former(path=path, inspection=inspection)
        reports.append(report)
        if on_report is not None:
            on_report(report)
    return reports


@dataclass(frozen=True, kw_only=True)
class _Former:
    """The file before, in the same folder, with the book as it left it."""

    path: Path
    inspection: Inspection

    @property
    def name(self) -> str:
        """The file's name, for people."""
        return path_text(self.path.name)

    @property
    def last_update_id(self) -> int | None:
        """The update that its book ended with; None where it had none."""
        index = self.inspection.index
        return index.checkpoint_update_id if index.last_update_id is None else index.last_update_id

    def may_lead_to(self, inspection: Inspection) -> bool:
        """Whether the other file's changes may continue this one's book, by what both say of themselves."""
        mine, other = self.inspection, inspection
        same = (mine.index.venue, mine.index.symbol) == (other.index.venue, other.index.symbol)
        recorded = mine.header is not None or other.header is not None
        follows = other.header is not None and other.header.follows(mine.header)
        return same and mine.rows.book.usable and (follows or not recorded)


def _verify(path: Path, before: _Former | None) -> tuple[FileReport, Inspection | None]:
    """What one file shows, alone and after the file before it."""
    faults: list[str] = []
    notes: list[str] = []
    if _lock_of(path) == FETCH_LOCK_FILE:
        unfinished = "its download is not finished; `mambalob fetch` goes on with it"
        return FileReport(path=path_text(path), faults=(unfinished,), breaks=(), notes=(), index=None), None
    try:
        instrument = capture_instrument(open_capture(path)).instrument
        inspection = inspect_capture(path, instrument)
    except (MambalobError, OSError, zipfile.BadZipFile) as error:
        faults.append(path_text(str(error)))
        return FileReport(path=path_text(path), faults=tuple(faults), breaks=(), notes=(), index=None), None
    alone = inspection
    if inspection.damage:
        faults.append(path_text(inspection.damage))
    if path.suffix == PART_SUFFIX:
        faults.append("it was never closed: its recorder was killed (--salvage closes it)")
    else:
        faults += _index_faults(path, inspection, notes)
    faults += _link_faults(before, inspection, notes)
    if inspection.first_waiting_update_id:
        inspection = _read_on(path, inspection, before, faults, notes)
    if not inspection.index.holds_market:
        faults.append("it holds nothing of the market")
    if alone.index.salvaged:
        notes.append("its recorder was killed; what it had flushed is here")
    found = inspection.index
    counted = found.gaps + found.crossed + found.malformed + found.overflow + found.not_json
    breaks = [str(fault) for fault in found.faults]
    if counted > len(breaks):
        breaks.append(f"and {counted - len(breaks):,} more")
    if found.holds_market and _lacks_book(inspection):
        breaks.append(_without_book(inspection))
    report = FileReport(
        path=path_text(path), faults=tuple(faults), breaks=tuple(breaks), notes=tuple(notes), index=found
    )
    return report, inspection


def _read_on(
    path: Path, alone: Inspection, before: _Former | None, faults: list[str], notes: list[str]
) -> Inspection:
    """Judge a file whose first changes come without a book, after the file before it where they may go on."""
    found, first = alone.index, alone.first_waiting_update_id
    if before is not None and before.may_lead_to(alone):
        last = before.last_update_id
        joined = inspect_capture(path, before.inspection.rows.instrument, rows=before.inspection.rows)
        at_once = any(fault.kind == "gap" and fault.after_update_id == last for fault in joined.index.faults)
        if not at_once:
            notes.append(f"it begins without a book and continues {before.name}, after which it was read")
            return joined
        if found.snapshots == 0:
            faults.append(
                f"it begins without a book at update {first}, and {before.name} before it ends with "
                f"update {last}: {missing_updates(last or 0, first)}, a file between the two perhaps"
            )
            return alone
    if found.snapshots == 0 and not _lacks_book(alone):
        notes.append(
            f"it holds no snapshot: its {found.waiting:,} changes, from update {first} on, are not checked; "
            "they need the file before it, which is not here"
        )
    return alone


def _lacks_book(inspection: Inspection) -> bool:
    """Whether there is no book at any time in a file that should have one.

    A recorder begins a file with the book or asks for it. Changes alone, recorded by others, may be a piece
    of something whole.
    """
    recorded, changes = inspection.header is not None, bool(inspection.first_waiting_update_id)
    return not inspection.index.holds_book and (recorded or not changes)


def _without_book(inspection: Inspection) -> str:
    """What came while there was no book."""
    waiting, first = inspection.index.waiting, inspection.first_waiting_update_id
    return (
        f"no snapshot came; its {waiting:,} changes, from update {first} on, are not checked"
        if first
        else ("no snapshot came, and no change of a book")
    )


def _is_being_written(part: Path) -> bool:
    return is_locked(part) or is_locked(part.parent / _lock_of(part))


def _lock_of(path: Path) -> str:
    """Which lock tells that a part file is being written."""
    return FETCH_LOCK_FILE if path.name.endswith(f".zip{PART_SUFFIX}") else LOCK_FILE


def _index_faults(path: Path, inspection: Inspection, notes: list[str]) -> list[str]:
    """How the file differs from its index."""
    try:
        told = read_index(path)
    except MambalobError as error:
        return [path_text(str(error))]
    if told is None:
        if inspection.header is not None:
            return ["it has no index beside it"]
        notes.append("it has no index to hold its bytes against")
        return []
    if told.salvaged:
        notes.append("its recorder was killed; it was closed afterwards")
    if told.damage:
        notes.append(f"its end was damaged when it was closed: {told.damage}")
    found = inspection.index
    if told.sha256 != found.sha256 or told.bytes != found.bytes:
        return [
            f"the file has {found.bytes:,} bytes, sha256 {found.sha256}; "
            f"its index says {told.bytes:,} bytes, sha256 {told.sha256}"
        ]
    return [
        f"{field}: {getattr(found, field)!r} counted, the index says {getattr(told, field)!r}"
        for field in CaptureIndex.__struct_fields__
        if field not in _TOLD_BY_WRITER and getattr(found, field) != getattr(told, field)
    ]


def _link_faults(before: _Former | None, inspection: Inspection, notes: list[str]) -> list[str]:
    """What is missing between two files of one recording; nothing where the second begins a recording."""
    second, checkpoint = inspection.header, inspection.index.checkpoint_update_id
    if second is None or not second.recording:
        return []
    first = None if before is None else before.inspection.header
    if before is None or first is None or first.recording != second.recording:
        if second.part:
            missing = _parts(0, second.part - 1)
            notes.append(f"it is part {second.part} of its recording, of which {missing} not here")
        return []
    last = before.last_update_id
    if second.part <= first.part:
        return [
            f"it is part {second.part} of its recording and comes by its name after {before.name}, "
            f"which is part {first.part}: renamed, or there twice"
        ]
    if second.part != first.part + 1:
        text = (
            f"{_parts(first.part + 1, second.part - 1)} missing of its recording, between {before.name} "
            f"(part {first.part}) and this file (part {second.part})"
        )
        if last is not None and checkpoint is not None:
            text += f": {missing_updates(last, checkpoint + 1)}"
        return [text]
    if checkpoint is None or last is None:
        return []
    if checkpoint != last:
        return [
            f"it goes on from update {checkpoint}, and {before.name} before it ends with update {last}: "
            + missing_updates(min(last, checkpoint), max(last, checkpoint) + 1)
        ]
    rows = before.inspection.rows
    if rows.book.usable and rows_digest(rows) != inspection.checkpoint_digest:
        return [
            f"the book that it says it begins with, at update {checkpoint}, is not the one that "
            f"{before.name} ends with"
        ]
    return []


def _parts(first: int, last: int) -> str:
    """`part 2 is`, `parts 2 to 4 are`."""
    return f"part {first} is" if first == last else f"parts {first} to {last} are"
