"""Closing what a killed recorder left: its part file becomes a whole one, and every file has its index.

Whoever calls this makes sure that no recorder of several files is at work in the folder; a part file that its
writer still holds is let be.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import msgspec

from lob.captures.capture import open_capture, recording_header
from lob.captures.file_lock import is_locked
from lob.captures.index import index_path, write_index
from lob.captures.inspection import Inspection, inspect_capture
from lob.captures.layout import DAMAGED_SUFFIX, RECORDING_SUFFIX, path_text
from lob.captures.recording import PART_SUFFIX, Header, RecordingWriter
from lob.errors import CaptureError
from lob.instrument import Instrument

_SALVAGE_SUFFIX = ".salvage"


def close_left(directory: Path) -> list[Path]:
    """Close each part file of `directory` and index each recording without index; answers the files closed.

    It may be stopped at any moment and begun again. Raises CaptureError where the disk refuses, or a file is
    not what its name says.
    """
    try:
        return _close_left(directory)
    except OSError as error:
        raise CaptureError(f"{path_text(error.filename or directory)}: {error.strerror or error}") from error


def _close_left(directory: Path) -> list[Path]:
    for left in directory.glob(f".*{_SALVAGE_SUFFIX}*"):
        left.unlink()
    closed = [
        whole
        for part in sorted(directory.glob(f"*{RECORDING_SUFFIX}{PART_SUFFIX}"))
        if not is_locked(part) and (whole := salvage(part)) is not None
    ]
    for path in sorted(directory.glob(f"*{RECORDING_SUFFIX}")):
        if not index_path(path).exists():
            inspection = inspect_capture(path, _instrument(path, recording_header(path)))
            if inspection.damage:
                raise CaptureError(f"{inspection.damage}; move the file away to record beside it")
            write_index(path, inspection.index)
    return closed


def salvage(part: Path) -> Path | None:
    """Give a part file its end, its name and its index; None where there is nothing to give a name to.

    That is one whose header cannot be read, or into which nothing of the market came: the latter is removed.
    What was damaged beyond a missing end is kept aside as `<file>.damaged`, and the index says so. Raises
    CaptureError where the disk refuses or somebody has taken the name.
    """
    path = part.with_name(part.name.removesuffix(PART_SUFFIX))
    if path.exists():
        raise CaptureError(f"{part}: cannot be closed, as {path} exists; move one of them away")
    try:
        header = recording_header(part)
    except CaptureError:
        if part.stat().st_size == 0:  # killed before it wrote anything
            part.unlink()
        else:
            part.rename(_damaged_path(part))
        return None
    inspection = inspect_capture(part, _instrument(part, header))
    if not inspection.index.holds_market and not inspection.damage:
        part.unlink()
        return None
    if inspection.interrupted or inspection.damage:
        _give_end(part, inspection)
        inspection = _salvaged(inspect_capture(part, _instrument(part, header)), inspection.damage)
    index = msgspec.structs.replace(inspection.index, file=path_text(path.name))
    part.rename(path)
    write_index(path, index)
    return path


def _give_end(part: Path, inspection: Inspection) -> None:
    """Put in the place of `part` a whole file of the same header and frames."""
    header = inspection.header
    assert header is not None, "a part file with a header was inspected"
    beside = part.with_name(f".{part.name}{_SALVAGE_SUFFIX}")
    capture = open_capture(part)
    frames = iter(capture)
    if header.checkpoint is not None:
        next(frames)
    with RecordingWriter(
        beside,
        venue=header.venue,
        instruments=header.instruments,
        created_ns=header.created_ns,
        source=header.source,
        recording=header.recording,
        part=header.part,
        checkpoint=header.checkpoint,
    ) as writer:
        for _ in range(inspection.index.frames):
            writer.write(*next(frames))
    if inspection.damage:
        shutil.copyfile(part, _damaged_path(part))
    beside.replace(part)


def _damaged_path(part: Path) -> Path:
    return part.with_name(part.name.removesuffix(PART_SUFFIX) + DAMAGED_SUFFIX)


def _salvaged(inspection: Inspection, damage: str) -> Inspection:
    index = msgspec.structs.replace(inspection.index, salvaged=True, damage=damage)
    return replace(inspection, index=index)


def _instrument(path: Path, header: Header | None) -> Instrument:
    """The instrument that a recording's header states."""
    if header is None or len(header.instruments) != 1 or header.instruments[0].tick_size is None:
        raise CaptureError(f"{path}: expected a recording of one instrument whose tick size it states")
    hint = header.instruments[0]
    return Instrument(symbol=hint.symbol, tick_size=hint.tick_size or "")
