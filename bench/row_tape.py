"""Feature rows in memory, for subjects that are timed on rows alone."""

from itertools import islice
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bench.frame_source import seeded_source
from lob.row_status import RowStatus
from lob.rows import RowPath
from lob.venues import make_decoder

Rows: TypeAlias = NDArray[np.float32]


def seeded_rows(seed: int, count: int) -> Rows:
    """The first `count` rows of the timing stream, (T, F), made by the path that serves."""
    source = seeded_source(seed)
    path = RowPath(make_decoder(source.venue), source.instrument)
    rows: list[Rows] = []
    for receive_ns, frame in islice(source.passes(), count):
        status = path.on_frame(frame, receive_ns)
        assert status in {RowStatus.ROW, RowStatus.SNAPSHOT}, f"{status.name}: every frame gives a row"
        rows.append(path.window.latest().copy())
    return np.stack(rows)


def in_columns(rows: Rows, columns: int) -> Rows:
    """`rows` (T, F) with exactly `columns` columns: the first ones, or all again and again until filled."""
    times = -(-columns // rows.shape[1])
    return np.ascontiguousarray(np.tile(rows, (1, times))[:, :columns])
