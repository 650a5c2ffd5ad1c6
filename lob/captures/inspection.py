"""What a capture holds, frame by frame: counted while it is recorded, and counted again from the file."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from lob.captures.capture import open_capture, recording_header
from lob.captures.index import CaptureIndex, SequenceFault
from lob.captures.recording import Header
from lob.errors import CaptureError
from lob.instrument import Instrument
from lob.messages import BookUpdate
from lob.rows import RowPath, RowStatus
from lob.venues import make_decoder

MAXIMUM_FAULTS = 1_000
"""Faults told one by one; further ones are only counted."""

_APPLIED = frozenset({RowStatus.ROW, RowStatus.SNAPSHOT, RowStatus.NO_ROW, RowStatus.ONE_SIDED})
_FAULTS = frozenset(
    {RowStatus.GAP, RowStatus.CROSSED, RowStatus.MALFORMED, RowStatus.OVERFLOW, RowStatus.NOT_JSON}
)
_SNAPSHOTS, _CHANGES = "snapshots", "changes"
_COUNTED = {
    RowStatus.IGNORED: "ignored",
    RowStatus.WAITING: "waiting",
    RowStatus.GAP: "gaps",
    RowStatus.CROSSED: "crossed",
    RowStatus.MALFORMED: "malformed",
    RowStatus.OVERFLOW: "overflow",
    RowStatus.NOT_JSON: "not_json",
    RowStatus.NOT_BOOK: "other",
    RowStatus.OTHER_STREAM: "other",
}


class CaptureTally:
    """Counts the frames of one file; the book they go through is the caller's."""

    def __init__(self) -> None:
        self.frames = 0
        self.frame_bytes = 0
        self.counts = dict.fromkeys((_SNAPSHOTS, _CHANGES, *_COUNTED.values()), 0)
        self.depth = 0
        self.faults: list[SequenceFault] = []
        self._receive_ns: list[int] = []  # first and last, or nothing yet; likewise the others
        self._exchange_ms: list[int] = []
        self._update_ids: list[int] = []

    def add(self, receive_ns: int, frame: bytes, rows: RowPath, status: RowStatus) -> None:
        """Count a frame that came to `status` in `rows`."""
        self.frames += 1
        self.frame_bytes += len(frame)
        _extend(self._receive_ns, receive_ns)
        message = rows.message
        update = message if isinstance(message, BookUpdate) else None
        if status in _APPLIED and update is not None:
            self.counts[_SNAPSHOTS if update.is_snapshot else _CHANGES] += 1
            self.depth = update.depth
            _extend(self._exchange_ms, rows.exchange_ms)
            _extend(self._update_ids, rows.update_id)
            return
        self.counts[_COUNTED[status]] += 1
        if status in _FAULTS and len(self.faults) < MAXIMUM_FAULTS:
            fault = SequenceFault(
                kind=status.name.lower(),
                frame=self.frames,
                receive_ns=receive_ns,
                after_update_id=rows.update_id,
                update_id=0 if update is None else update.update_id,
            )
            self.faults.append(fault)

    @property
    def first_receive_ns(self) -> int | None:
        """When the first frame came."""
        return self._receive_ns[0] if self._receive_ns else None

    @property
    def last_receive_ns(self) -> int | None:
        """When the last frame came."""
        return self._receive_ns[1] if self._receive_ns else None

    def index(
        self,
        path: Path,
        *,
        file_bytes: int,
        sha256: str,
        venue: str,
        instrument: Instrument,
        header: Header | None,
        checkpoint_update_id: int | None,
    ) -> CaptureIndex:
        """The index of the file at `path`, whose frames these were."""
        return CaptureIndex(
            file=path.name,
            bytes=file_bytes,
            sha256=sha256,
            venue=venue,
            symbol=instrument.symbol,
            tick_size=instrument.tick_size,
            depth=self.depth,
            source=header.source if header else "",
            recording=header.recording if header else "",
            part=header.part if header else 0,
            checkpoint_update_id=checkpoint_update_id,
            frames=self.frames,
            frame_bytes=self.frame_bytes,
            first_receive_ns=_first(self._receive_ns),
            last_receive_ns=_last(self._receive_ns),
            first_exchange_ms=_first(self._exchange_ms),
            last_exchange_ms=_last(self._exchange_ms),
            first_update_id=_first(self._update_ids),
            last_update_id=_last(self._update_ids),
            snapshots=self.counts[_SNAPSHOTS],
            changes=self.counts[_CHANGES],
            ignored=self.counts["ignored"],
            waiting=self.counts["waiting"],
            other=self.counts["other"],
            gaps=self.counts["gaps"],
            crossed=self.counts["crossed"],
            malformed=self.counts["malformed"],
            overflow=self.counts["overflow"],
            not_json=self.counts["not_json"],
            faults=tuple(self.faults),
        )


def _extend(ends: list[int], value: int) -> None:
    if ends:
        ends[1] = value
    else:
        ends += (value, value)


def _first(ends: list[int]) -> int | None:
    return ends[0] if ends else None


def _last(ends: list[int]) -> int | None:
    return ends[-1] if ends else None


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What reading a capture from end to end showed; `damage` says where and why it could not be read on."""

    index: CaptureIndex
    header: Header | None
    interrupted: bool
    """Whether it is a part file whose end is missing, and nothing else."""
    damage: str


def inspect_capture(path: Path, instrument: Instrument) -> Inspection:
    """Read a capture through a book of its own, holding one frame at a time, and its bytes for the checksum.

    Raises CaptureError where not even the first line can be read.
    """
    header = recording_header(path)
    capture = open_capture(path)
    rows = RowPath(make_decoder(capture.venue), instrument, window_length=1)
    tally = CaptureTally()
    checkpoint_update_id: int | None = None
    damage = ""
    frames = iter(capture)
    try:
        if header is not None and header.checkpoint is not None:
            receive_ns, frame = next(frames)
            rows.on_frame(frame, receive_ns)
            checkpoint_update_id = rows.update_id
        for receive_ns, frame in frames:
            tally.add(receive_ns, frame, rows, rows.on_frame(frame, receive_ns))
    except CaptureError as error:
        damage = str(error)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    index = tally.index(
        path,
        file_bytes=path.stat().st_size,
        sha256=sha256,
        venue=capture.venue,
        instrument=instrument,
        header=header,
        checkpoint_update_id=checkpoint_update_id,
    )
    return Inspection(index=index, header=header, interrupted=capture.interrupted, damage=damage)
