"""Captures in pieces that can be read apart, and the rows of one such piece, spooled to disk as they come.

A capture that begins with a snapshot, or states the book it begins with, is a piece of its own; one that
does not belongs to the piece of the capture before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from inference.manifest import TrainingFile
from lob.captures import open_capture
from lob.captures.capture import PEEKED_LINES, recording_header
from lob.captures.layout import path_text
from lob.captures.recording import Header
from lob.errors import CaptureError
from lob.instrument import Instrument
from lob.messages import BookUpdate
from lob.row_status import RowStatus
from lob.rows import RowPath
from lob.schema import Schema
from lob.venues import make_decoder
from training.dataset import ARRAYS, file_sha256

SPOOLED_ROWS = 4_096
"""Rows held in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class CaptureUnit:
    """Captures that continue one another, of which only the first can be read by itself."""

    number: int
    files: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class RowSettings:
    """What turns frames into rows, the same for every unit; `depth` is the book's, None: that which comes."""

    venue: str
    instrument: Instrument
    schema: Schema
    sampling: str
    depth: int | None


@dataclass(frozen=True, kw_only=True)
class UnitRows:
    """What became of a unit. Its rows lie in `spool_path` of each array; segments count from 0."""

    number: int
    rows: int
    segments: int
    files: tuple[TrainingFile, ...]
    frames: dict[str, int]
    """How many frames came to each status, the checkpoint not among them."""
    checkpoint_update_id: int | None
    """The update of the book that the first file itself begins with."""
    checkpoint_status: RowStatus | None
    """What that book came to: a row, the first one here, or none."""
    last_update_id: int | None
    """The book's update at the end, None where it is not in sequence."""
    first_header: Header | None
    last_header: Header | None

    def follows(self, before: "UnitRows") -> bool:
        """Whether the sequence goes on from `before`: then the checkpoint's row is no row of the stream."""
        return (
            self.first_header is not None
            and self.first_header.follows(before.last_header)
            and self.checkpoint_update_id is not None
            and self.checkpoint_update_id == before.last_update_id
        )


def split_into_units(
    files: Sequence[Path], venue: str, symbol: str
) -> tuple[tuple[CaptureUnit, ...], int | None]:
    """(units, depth) of captures in order; the depth is that of the book which the first one begins with.

    Where the first one does not begin with a book there is no depth, and on a venue that sends a book in
    several depths one unit.
    """
    depth = _first_book_depth(files[0], venue, symbol)
    if depth is None and not make_decoder(venue).snapshot_apart:
        return (CaptureUnit(number=0, files=tuple(files)),), None
    groups = [[files[0]]]
    for path in files[1:]:
        if _first_book_depth(path, venue, symbol) is None:
            groups[-1].append(path)
        else:
            groups.append([path])
    return tuple(CaptureUnit(number=i, files=tuple(group)) for i, group in enumerate(groups)), depth


def _first_book_depth(path: Path, venue: str, symbol: str) -> int | None:
    """The depth of the snapshot that a capture's book messages begin with; None where they begin otherwise.

    A snapshot of one level replaces the book in the middle of a stream, and so begins nothing.
    """
    decoder = make_decoder(venue)
    for _, frame in islice(open_capture(path), PEEKED_LINES):
        message = decoder.decode(frame)
        if isinstance(message, BookUpdate) and message.symbol in {symbol, ""}:
            return message.depth if message.is_snapshot and not message.continues else None
    return None


def spool_path(folder: Path, number: int, array: str) -> Path:
    """Where the values of one of `training.dataset.ARRAYS` lie, raw, of the unit of that number."""
    return folder / f"{number}.{array}.raw"


def spool_unit(unit: CaptureUnit, settings: RowSettings, folder: Path) -> UnitRows:
    """Write the unit's rows to `folder`; holds SPOOLED_ROWS of them and one frame.

    Raises CaptureError for a truncated, corrupt or unfinished capture.
    """
    path = RowPath(
        make_decoder(settings.venue),
        settings.instrument,
        settings.schema,
        settings.sampling,
        window_length=1,
        depth=settings.depth,
    )
    headers = [recording_header(file) for file in unit.files]
    checkpoint_status: RowStatus | None = None
    checkpoint_update_id: int | None = None
    files: list[TrainingFile] = []
    checkpoints: list[RowStatus] = []
    before: Header | None = None
    with _Spool(folder, unit.number, settings.schema.feature_count) as spool:
        for file, header in zip(unit.files, headers, strict=True):
            rows_before = spool.rows
            capture = open_capture(file)
            frames = iter(capture)
            if header is not None and header.checkpoint is not None:
                receive_ns, frame = next(frames)
                if not header.follows(before):
                    checkpoints.append(path.on_frame(frame, receive_ns))
                    spool.take(path, checkpoints[-1], receive_ns)
                    if before is None:
                        checkpoint_status, checkpoint_update_id = checkpoints[-1], path.update_id
            before = header
            first_ns: int | None = None
            receive_ns = 0
            for receive_ns, frame in frames:
                if first_ns is None:
                    first_ns = receive_ns
                spool.take(path, path.on_frame(frame, receive_ns), receive_ns)
            if capture.interrupted:
                raise CaptureError(f"{file}: its writer did not finish it; a whole capture is needed")
            files.append(
                TrainingFile(
                    name=path_text(file.name),
                    sha256=file_sha256(file),
                    first_ns=first_ns or 0,
                    last_ns=receive_ns,
                    rows=spool.rows - rows_before,
                )
            )
    counted = path.counters
    for status in checkpoints:
        counted[status.name.lower()] -= 1
    return UnitRows(
        number=unit.number,
        rows=spool.rows,
        segments=spool.segment + 1,
        files=tuple(files),
        frames=counted,
        checkpoint_update_id=checkpoint_update_id,
        checkpoint_status=checkpoint_status,
        last_update_id=path.book.update_id if path.book.usable else None,
        first_header=headers[0],
        last_header=headers[-1],
    )


class _Spool:
    """The rows of one unit on their way to disk, some in memory."""

    def __init__(self, folder: Path, number: int, features: int) -> None:
        self.rows = 0
        self.segment = -1
        shapes = {1: (SPOOLED_ROWS,), 2: (SPOOLED_ROWS, features)}
        self._arrays = {name: np.empty(shapes[axes], kind) for name, (kind, axes) in ARRAYS.items()}
        self._held = 0
        self._paths = {name: spool_path(folder, number, name) for name in ARRAYS}
        for path in self._paths.values():
            path.touch(exist_ok=False)

    def take(self, path: RowPath, status: RowStatus, receive_ns: int) -> None:
        """Keep what a frame that came to `status` left in `path`, if it is a row."""
        if status is RowStatus.SNAPSHOT:
            self.segment += 1
        elif status is not RowStatus.ROW:
            return
        place, arrays = self._held, self._arrays
        arrays["rows"][place] = path.window.latest()
        arrays["mid_half_ticks"][place] = int(path.book.bids(1)[0][0]) + int(path.book.asks(1)[0][0])
        arrays["exchange_ms"][place] = path.exchange_ms
        arrays["receive_ns"][place] = receive_ns
        arrays["segments"][place] = self.segment
        self._held += 1
        self.rows += 1
        if self._held == SPOOLED_ROWS:
            self.flush()

    def flush(self) -> None:
        """Append the rows held to their files; raises CaptureError where the disk refuses."""
        for name, path in self._paths.items():
            try:
                with path.open("ab") as file:
                    file.write(self._arrays[name][: self._held].data)
            except OSError as error:
                raise CaptureError(f"{path}: cannot be written ({error.strerror})") from error
        self._held = 0

    def __enter__(self) -> "_Spool":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None and self._held:
            self.flush()
