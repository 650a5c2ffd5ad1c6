"""The index beside a capture: what the file holds, to the byte, as it was when the file was finished."""

import secrets
from pathlib import Path

import msgspec

from lob.errors import CaptureError

INDEX_SUFFIX = ".index.json"
FORMAT_VERSION = 1


class SequenceFault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A place where the book was lost: `kind` is `lob.rows.RowStatus` in lower case, `frame` counts from 1.

    `after_update_id` is the last update applied before it, `update_id` the one that came (0 where the frame
    is no book message).
    """

    kind: str
    frame: int
    receive_ns: int
    after_update_id: int
    update_id: int

    def __str__(self) -> str:
        what = f"update {self.update_id} after {self.after_update_id}" if self.update_id else "unreadable"
        return f"{self.kind.replace('_', ' ')} at frame {self.frame}: {what}"


class CaptureIndex(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one capture file holds; everything but `salvaged` and `damage` follows from the file alone.

    `frames` are those of the venue, of which `snapshots` and `changes` were applied to the book, `ignored`
    were old, and `waiting` came before a snapshot. `gaps`, `crossed`, `malformed`, `overflow` and `not_json`
    count what `faults` tells one by one, up to `lob.captures.inspection.MAXIMUM_FAULTS`. Update ids and
    exchange times are those of the first and last message applied; None where none was.
    `checkpoint_update_id` is that of the book the file itself begins with.
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


def index_path(capture: Path) -> Path:
    """Where the index of `capture` stands."""
    return capture.with_name(capture.name + INDEX_SUFFIX)


def write_index(capture: Path, index: CaptureIndex) -> None:
    """Write the index beside its capture, whole or not at all; raises CaptureError where the disk refuses."""
    path = index_path(capture)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
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
        index = msgspec.json.decode(path.read_bytes(), type=CaptureIndex)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CaptureError(f"{path}: no index of a capture ({error})") from error
    if index.format_version != FORMAT_VERSION:
        raise CaptureError(
            f"{path}: format_version: {index.format_version} came, this program reads {FORMAT_VERSION}"
        )
    return index
