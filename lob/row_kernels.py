"""A change of the book and the row it makes, in one jitted call: from the frame's bytes, or decoded before.

Other jitted code may take the place of either call, to go on with the row at once: see `RowSequel`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lob.book import USABLE, BookStatus, Floats, Integers, apply_change, update_book
from lob.delta_scan import (
    EVERY_MESSAGE,
    LAST_EXCHANGE,
    LAST_GATEWAY,
    LAST_SEQUENCE,
    LAST_UPDATE,
    scan_delta,
)
from lob.features import sample_row
from lob.kernel import kernel
from lob.row_status import RowStatus

ELSEWHERE = -1
"""What `scan_and_sample` answers for a frame that it does not take: nothing was applied."""

OUTCOME_SHIFT = 4
"""Bits of a kernel's answer that hold the `RowStatus`; those above are a sequel's outcome."""


@kernel
def scan_and_sample(
    header: Integers,
    keys: Integers,
    sizes: Floats,
    top: Floats,
    storage: npt.NDArray[np.float32],
    stream: Integers,
    slot: int,
    frame: bytes,
) -> int:
    """Apply the change in `frame`, write its row to `slot` if sampled; a `RowStatus` as an int, or ELSEWHERE.

    header, keys, sizes, top, storage as `sample_row` takes them; stream as `lob.delta_scan.follow` left it.
    """
    bids, asks, update_id, sequence, gateway_ms, exchange_ms = scan_delta(frame, stream, header, keys, sizes)
    if bids < 0:
        return ELSEWHERE
    status = apply_change(header, keys, sizes, update_id, update_id, -1, bids, asks)
    if status == BookStatus.IGNORED.value and sequence > stream[LAST_SEQUENCE]:
        header[USABLE] = 0  # the book's numbers began anew: see `lob.rows.RowPath`
        return RowStatus.GAP.value
    if status != BookStatus.OK.value and status != BookStatus.ONE_SIDED.value:
        return status
    stream[LAST_UPDATE] = update_id
    stream[LAST_SEQUENCE] = sequence
    stream[LAST_EXCHANGE] = exchange_ms
    stream[LAST_GATEWAY] = gateway_ms
    if status != BookStatus.OK.value:
        return status
    if sample_row(header, keys, sizes, top, stream[EVERY_MESSAGE] != 0, storage, slot):
        return RowStatus.ROW.value
    return RowStatus.NO_ROW.value


@kernel
def update_and_sample(
    header: Integers,
    keys: Integers,
    sizes: Floats,
    top: Floats,
    storage: npt.NDArray[np.float32],
    stream: Integers,
    slot: int,
    first_update_id: int,
    update_id: int,
    previous_update_id: int,
    bids: bytes,
    asks: bytes,
) -> int:
    """Apply a decoded change and write its row to `slot` if sampled; answers a `RowStatus` as an int.

    Of `stream` only EVERY_MESSAGE is read; the rest as `scan_and_sample` and `lob.book.update_book`.
    """
    status = update_book(
        header, keys, sizes, False, False, first_update_id, update_id, previous_update_id, bids, asks
    )
    if status != BookStatus.OK.value:
        return status
    if sample_row(header, keys, sizes, top, stream[EVERY_MESSAGE] != 0, storage, slot):
        return RowStatus.ROW.value
    return RowStatus.NO_ROW.value


@dataclass(frozen=True, kw_only=True)
class RowSequel:
    """A kernel that goes on with a row in the call that makes it, in place of one of the two above.

    It takes what `scan_and_sample` takes where `scans`, else what `update_and_sample` takes, with `arguments`
    behind the first six, and answers the same; where it went on with a row, with an outcome of its own above
    0, shifted by OUTCOME_SHIFT, added. It leaves the first row of a new book alone.
    """

    kernel: Callable[..., int]
    arguments: tuple[Any, ...]
    scans: bool
