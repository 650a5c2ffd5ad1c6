"""Is a capture whole: read from end to end, held against its index, and against the file it continues."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from inference.capture_instrument import capture_instrument
from inference.folder_lock import is_locked
from lob.captures import open_capture
from lob.captures.index import CaptureIndex, read_index
from lob.captures.inspection import Inspection, inspect_capture
from lob.captures.layout import FETCH_LOCK_FILE, LOCK_FILE, capture_files
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
    """Counted now, from the file."""

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
    before: Inspection | None = None
    before_path: Path | None = None
    for path in capture_files(paths, parts=True):
        if path.suffix == PART_SUFFIX and path not in paths and is_locked(path.parent, _lock_of(path)):
            continue
        report, inspection = _verify(path)
        if inspection is not None:
            same_folder = before_path is not None and before_path.parent == path.parent
            link = _link_faults(before if same_folder else None, inspection)
            report = msgspec.structs.replace(report, faults=report.faults + link)
        before, before_path = inspection, path
        reports.append(report)
        if on_report is not None:
            on_report(report)
    return reports


def _verify(path: Path) -> tuple[FileReport, Inspection | None]:
    """What one file alone shows."""
    faults: list[str] = []
    notes: list[str] = []
    inspection: Inspection | None = None
    if _lock_of(path) == FETCH_LOCK_FILE:
        unfinished = "its download is not finished; `mambalob fetch` goes on with it"
        return FileReport(path=str(path), faults=(unfinished,), breaks=(), notes=(), index=None), None
    try:
        instrument = capture_instrument(open_capture(path)).instrument
        inspection = inspect_capture(path, instrument)
    except (MambalobError, OSError, zipfile.BadZipFile) as error:
        faults.append(str(error))
        return FileReport(path=str(path), faults=tuple(faults), breaks=(), notes=(), index=None), None
    found = inspection.index
    if inspection.damage:
        faults.append(inspection.damage)
    if path.suffix == PART_SUFFIX:
        faults.append("it was never closed: its recorder was killed (--salvage closes it)")
    else:
        faults += _index_faults(path, inspection, notes)
    if found.snapshots == 0 and found.checkpoint_update_id is None:
        notes.append(
            f"it holds no snapshot: its {found.waiting:,} changes, not checked, need the file before"
        )
    if found.salvaged:
        notes.append("its recorder was killed; what it had flushed is here")
    counted = found.gaps + found.crossed + found.malformed + found.overflow + found.not_json
    breaks = [str(fault) for fault in found.faults]
    if counted > len(breaks):
        breaks.append(f"and {counted - len(breaks):,} more")
    report = FileReport(
        path=str(path), faults=tuple(faults), breaks=tuple(breaks), notes=tuple(notes), index=found
    )
    return report, inspection


def _lock_of(path: Path) -> str:
    """Which lock tells that a part file is being written."""
    return FETCH_LOCK_FILE if path.name.endswith(f".zip{PART_SUFFIX}") else LOCK_FILE


def _index_faults(path: Path, inspection: Inspection, notes: list[str]) -> list[str]:
    """How the file differs from its index."""
    try:
        told = read_index(path)
    except MambalobError as error:
        return [str(error)]
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


def _link_faults(before: Inspection | None, inspection: Inspection) -> tuple[str, ...]:
    """What is missing between two files of one recording; nothing where the second begins a recording."""
    if before is None or before.header is None or inspection.header is None:
        return ()
    first, second = before.header, inspection.header
    if first.recording != second.recording or not second.recording:
        return ()
    if second.part != first.part + 1:
        return (f"it is part {second.part} of its recording and follows part {first.part}: some are missing",)
    checkpoint, last = inspection.index.checkpoint_update_id, before.index.last_update_id
    last = before.index.checkpoint_update_id if last is None else last
    if checkpoint is not None and checkpoint != last:
        return (f"it continues update {checkpoint}, and the file before ends with update {last}",)
    return ()
