"""The index beside a capture: what the file holds, to the byte, as it was when the file was finished."""

from pathlib import Path

import msgspec

from lob.errors import CaptureError
from lob.name_aside import name_aside

INDEX_SUFFIX = ".index.json"
FORMAT_VERSION = 1
MAXIMUM_INDEX_BYTES = 4 << 20
"""The longest index read: one of a thousand faults has some 200 KiB."""


class SequenceFault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A place where the book was lost: `kind` is a `lob.row_status.RowStatus` in lower case.

    `frame` counts from 1, `after_update_id` is the last update applied before it, `update_id` the first one
    of the message that came (0 where the frame is no book message).
    """

    kind: str
    frame: int
    receive_ns: int
    after_update_id: int
    update_id: int

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')} at frame {self.frame}: {self._what()}"

    def _what(self) -> str:
        if not self.update_id:
            return "unreadable"
        if self.kind != "gap":
            return f"update {self.update_id} after {self.after_update_id}"
        if self.update_id <= self.after_update_id + 1:
            return f"update {self.update_id} came after {self.after_update_id} and does not continue it"
        return missing_updates(self.after_update_id, self.update_id)


def missing_updates(after: int, before: int) -> str:
    """`updates 8 to 11 are missing`, for what should have come after update 7 and before update 12."""
    if before - after == 2:
        return f"update {after + 1} is missing"
    return f"updates {after + 1} to {before - 1} are missing"


class CaptureIndex(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one capture file holds; everything but `salvaged` and `damage` follows from the file alone.

    `frames` are those of the venue, of which `snapshots` and `changes` were applied to the book, `ignored`
    were old, `waiting` came before a snapshot (or were one too old to be joined to the changes), and `trades`
    hold trades. `gaps`, `crossed`, `malformed`, `overflow` and `not_json` count what `faults` tells one by
    one, up to `lob.captures.inspection.MAXIMUM_FAULTS`. Update ids and exchange times are those of the first
    and last message applied; None where none was. `checkpoint_update_id` is that of the book the file itself
    begins with.
    """

    format_version: int = FORMAT_VERSION
    file: str
    bytes: int
    sha256: str
    venue: str
    symbol: str
    tick_size: str
    depth: int
    source: str
    recording: str
    part: int
    checkpoint_update_id: int | None
    frames: int
    frame_bytes: int
    first_receive_ns: int | None
    last_receive_ns: int | None
    first_exchange_ms: int | None
    last_exchange_ms: int | None
    first_update_id: int | None
    last_update_id: int | None
    snapshots: int
    changes: int
    trades: int = 0
    ignored: int
    waiting: int
    other: int
    gaps: int
    crossed: int
    malformed: int
    overflow: int
    not_json: int
    faults: tuple[SequenceFault, ...]
    salvaged: bool = False
    """Whether its writer was killed, and the file is what was left, closed later."""
    damage: str = ""
    """What was wrong at the end of the file that was left, where it was more than an end missing."""

    @property
    def holds_book(self) -> bool:
        """Whether there was a book: one that it begins with, a snapshot, or a change to what came before."""
        return self.checkpoint_update_id is not None or self.snapshots + self.changes > 0

    @property
    def holds_market(self) -> bool:
        """Whether it holds anything of the market, and not only the venue's answers to requests."""
        return self.holds_book or self.frames > self.other


def index_path(capture: Path) -> Path:
    """Where the index of `capture` stands."""
    return capture.with_name(capture.name + INDEX_SUFFIX)


def write_index(capture: Path, index: CaptureIndex) -> None:
    """Write the index beside its capture, whole or not at all; raises CaptureError where the disk refuses."""
    path = index_path(capture)
    beside = name_aside(path)
    try:
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(index), indent=1) + b"\n")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise CaptureError(f"{path}: cannot be written ({error.strerror})") from error


def read_index(capture: Path) -> CaptureIndex | None:
    """The index of `capture`, None where it has none; raises CaptureError for one that cannot be read."""
    path = index_path(capture)
    try:
        with path.open("rb") as file:
            text = file.read(MAXIMUM_INDEX_BYTES + 1)
        if len(text) > MAXIMUM_INDEX_BYTES:
            raise CaptureError(f"{path}: no index of a capture (more than {MAXIMUM_INDEX_BYTES:,} bytes)")
        index = msgspec.json.decode(text, type=CaptureIndex)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CaptureError(f"{path}: no index of a capture ({error})") from error
    if index.format_version != FORMAT_VERSION:
        raise CaptureError(
            f"{path}: format_version: {index.format_version} came, this program reads {FORMAT_VERSION}"
        )
    return index
