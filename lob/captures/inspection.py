"""What a capture holds, frame by frame: counted while it is recorded, and counted again from the file."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lob.book_digest import book_digest
from lob.captures.capture import open_capture, recording_header
from lob.captures.index import CaptureIndex, SequenceFault
from lob.captures.layout import path_text
from lob.captures.recording import Header
from lob.errors import CaptureError
from lob.instrument import Instrument
from lob.messages import BookUpdate, Trades
from lob.row_status import RowStatus
from lob.rows import RowPath
from lob.venues import make_decoder

MAXIMUM_FAULTS = 1_000
"""Faults told one by one; further ones are only counted."""

_APPLIED = frozenset({RowStatus.ROW, RowStatus.SNAPSHOT, RowStatus.NO_ROW, RowStatus.ONE_SIDED})
_FAULTS = frozenset(
    {RowStatus.GAP, RowStatus.CROSSED, RowStatus.MALFORMED, RowStatus.OVERFLOW, RowStatus.NOT_JSON}
)
_SNAPSHOTS, _CHANGES, _TRADES = "snapshots", "changes", "trades"
_COUNTED = {
    RowStatus.IGNORED: "ignored",
    RowStatus.WAITING: "waiting",
    RowStatus.REFUSED: "waiting",
    RowStatus.GAP: "gaps",
    RowStatus.CROSSED: "crossed",
    RowStatus.MALFORMED: "malformed",
    RowStatus.OVERFLOW: "overflow",
    RowStatus.NOT_JSON: "not_json",
    RowStatus.NOT_BOOK: "other",
    RowStatus.OTHER_STREAM: "other",
}


class CaptureTally:
    """Counts the frames of one file; the book they go through is the caller's.

    `checkpoint_update_id` is that of the book the file itself begins with, None where it begins with none;
    `after_update_id` that of the book it is read after.
    """

    def __init__(self, checkpoint_update_id: int | None = None, *, after_update_id: int = 0) -> None:
        self.checkpoint_update_id = checkpoint_update_id
        self.first_waiting_update_id = 0
        """The first update for which there was no book yet; 0 where there was one for each."""
        self._after_update_id = after_update_id
        self._unjoined = False
        """Whether the book is a snapshot sent apart and no change has joined it yet."""
        self.frames = 0
        self.frame_bytes = 0
        self.counts = dict.fromkeys((_SNAPSHOTS, _CHANGES, _TRADES, *_COUNTED.values()), 0)
        self.depth = 0
        self.faults: list[SequenceFault] = []
        self._receive_ns: list[int] = []  # first and last, or nothing yet; likewise the others
        self._exchange_ms: list[int] = []
        self._update_ids: list[int] = []

    def add(self, receive_ns: int, frame: bytes, rows: RowPath, status: RowStatus) -> RowStatus:
        """Count a frame that came to `status` in `rows`; answers what it was counted as.

        A GAP is one of the stream. Where a snapshot sent apart is only too old for the changes to join it,
        nothing is missing: the book is as unknown as it was, which is WAITING.
        """
        self.frames += 1
        self.frame_bytes += len(frame)
        _extend(self._receive_ns, receive_ns)
        message = rows.message
        update = message if isinstance(message, BookUpdate) else None
        if status in _APPLIED and update is not None:
            joins = update.exact and status is RowStatus.SNAPSHOT  # at a change that came after its snapshot
            self.counts[_SNAPSHOTS if update.is_snapshot or joins else _CHANGES] += 1
            whole = update.is_snapshot and rows.update_id == update.update_id
            self._unjoined = whole and rows.decoder.snapshot_apart
            self.depth = update.depth
            _extend(self._exchange_ms, rows.exchange_ms)
            _extend(self._update_ids, rows.update_id)
            return status
        if isinstance(message, Trades):
            self.counts[_TRADES] += 1
            return status
        if status is RowStatus.GAP and (rows.held_snapshot or self._unjoined):
            status = RowStatus.WAITING
        self.counts[_COUNTED[status]] += 1
        if status is RowStatus.WAITING and update is not None and not update.is_snapshot:
            self.first_waiting_update_id = self.first_waiting_update_id or update.first_update_id
        if status in _FAULTS and len(self.faults) < MAXIMUM_FAULTS:
            fault = SequenceFault(
                kind=status.name.lower(),
                frame=self.frames,
                receive_ns=receive_ns,
                after_update_id=_last(self._update_ids) or self.checkpoint_update_id or self._after_update_id,
                update_id=0 if update is None else update.first_update_id,
            )
            self.faults.append(fault)
        return status

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
    ) -> CaptureIndex:
        """The index of the file at `path`, whose frames these were."""
        return CaptureIndex(
            file=path_text(path.name),
            bytes=file_bytes,
            sha256=sha256,
            venue=venue,
            symbol=instrument.symbol,
            tick_size=instrument.tick_size,
            depth=self.depth,
            source=header.source if header else "",
            recording=header.recording if header else "",
            part=header.part if header else 0,
            checkpoint_update_id=self.checkpoint_update_id,
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
            trades=self.counts[_TRADES],
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
    rows: RowPath
    """The book as the file leaves it."""
    checkpoint_digest: int
    """`lob.book_digest` of the book that the file states it begins with; 0 where it states none."""
    first_waiting_update_id: int
    """The first update that came before there was a book for it; 0 where none did."""


def inspect_capture(path: Path, instrument: Instrument, *, rows: RowPath | None = None) -> Inspection:
    """Read a capture from end to end, holding one frame at a time, and its bytes for the checksum.

    Its messages go through `rows`, which then end as the file does, where it is read after the file that they
    come from; by default through a book of its own, which begins with the one the file states. Raises
    CaptureError where not even the first line can be read.
    """
    header = recording_header(path)
    capture = open_capture(path)
    alone = rows is None
    if rows is None:
        rows = RowPath(make_decoder(capture.venue), instrument, window_length=1)
    tally = CaptureTally(after_update_id=0 if alone else rows.update_id)
    checkpoint_digest = 0
    damage = ""
    frames = iter(capture)
    try:
        if header is not None and header.checkpoint is not None:
            receive_ns, frame = next(frames)
            if alone:
                rows.on_frame(frame, receive_ns)
                tally.checkpoint_update_id = rows.update_id
                checkpoint_digest = rows_digest(rows)
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
    )
    return Inspection(
        index=index,
        header=header,
        interrupted=capture.interrupted,
        damage=damage,
        rows=rows,
        checkpoint_digest=checkpoint_digest,
        first_waiting_update_id=tally.first_waiting_update_id,
    )


def rows_digest(rows: RowPath) -> int:
    """`lob.book_digest` of the whole book of `rows`, its prices as ticks."""
    bids, asks = rows.book.bids(), rows.book.asks()
    return book_digest(bids[0].astype(np.float64), bids[1], asks[0].astype(np.float64), asks[1])
