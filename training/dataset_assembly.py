"""A data set's arrays out of the spooled rows of its units, copied in pieces: no array is ever in memory."""

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np

from inference.manifest import TrainingFile
from lob.errors import CaptureError, InputError
from training.capture_units import UnitRows, spool_path
from training.dataset import ARRAYS

COPIED_BYTES = 1 << 20
CLOCK_TOLERANCE_NS = 60 * 1_000_000_000
"""How far a capture may begin before the end of the one before it: clocks are set, days overlap a little."""


def write_arrays(
    units: Sequence[UnitRows], spool: Path, directory: Path, feature_count: int
) -> tuple[dict[str, str], int, int]:
    """(checksums, rows, segments) of the arrays written to `directory`; the spooled files are used up.

    The rows of a unit that goes on where the one before it ended are of the same segment, without the row of
    the book that its file states; any other unit begins a new segment. (Where that book has an empty side it
    gives no row, and the next one begins a segment.)
    """
    starts, offsets, rows, segments = _places(units)
    checksums = {}
    for name, (kind, axes) in ARRAYS.items():
        row_bytes = np.dtype(kind).itemsize * (feature_count if axes == 2 else 1)
        shape = (rows, feature_count) if axes == 2 else (rows,)
        header = {"descr": np.dtype(kind).str, "fortran_order": False, "shape": shape}
        path = directory / f"{name}.npy"
        try:
            with path.open("w+b") as target:
                np.lib.format.write_array_header_1_0(target, header)
                for unit, start, offset in zip(units, starts, offsets, strict=True):
                    source = spool_path(spool, unit.number, name)
                    with source.open("rb") as file:
                        file.seek(start * row_bytes)
                        while piece := file.read(COPIED_BYTES):
                            if name == "segments":
                                piece = (np.frombuffer(piece, kind) + np.int32(offset)).tobytes()
                            target.write(piece)
                    source.unlink()
                target.seek(0)
                checksums[name] = hashlib.file_digest(target, "sha256").hexdigest()
        except OSError as error:
            raise CaptureError(f"{path}: cannot be written ({error.strerror})") from error
    return checksums, rows, segments


def _places(units: Sequence[UnitRows]) -> tuple[list[int], list[int], int, int]:
    """(first row taken, segment offset) of each unit as two lists, and the rows and segments of all."""
    starts: list[int] = []
    offsets: list[int] = []
    rows = segments = 0
    before: UnitRows | None = None
    for unit in units:
        drops = drops_first_row(unit, before)
        starts.append(int(drops))
        offsets.append(segments - int(drops))
        rows += unit.rows - int(drops)
        segments += unit.segments - int(drops)
        before = unit
    return starts, offsets, rows, segments


def drops_first_row(unit: UnitRows, before: UnitRows | None) -> bool:
    """Whether the unit's first row is the book that its first file states and `before` ends with."""
    if before is None or not unit.follows(before) or unit.checkpoint_status is None:
        return False
    return unit.checkpoint_status.name in {"ROW", "SNAPSHOT"}


def files_of(unit: UnitRows, before: UnitRows | None) -> tuple[TrainingFile, ...]:
    """The captures of a unit, each with the rows that it gives the data set."""
    if not drops_first_row(unit, before):
        return unit.files
    first, *others = unit.files
    return (msgspec.structs.replace(first, rows=first.rows - 1), *others)


def check_order(files: Sequence[TrainingFile]) -> None:
    """Raise InputError where a capture begins before the one in front of it ends."""
    timed = [file for file in files if file.last_ns]
    for earlier, later in pairwise(timed):
        if later.first_ns < earlier.last_ns - CLOCK_TOLERANCE_NS:
            raise InputError(
                f"{later.name} begins before {earlier.name} ends; captures are needed in the order of time"
            )


def frames_of(units: Sequence[UnitRows]) -> dict[str, int]:
    """How many of the venue's frames came to each status, over all units."""
    total: dict[str, int] = {}
    for unit in units:
        for status, count in unit.frames.items():
            total[status] = total.get(status, 0) + count
    return total
