"""Plain twins of what `training.forecast` does in pieces."""

import numpy as np
from numpy.typing import NDArray

from models.mamba_lob import MambaLOB
from training.forecast import stretch_pieces
from training.pool import LabelledStream


def served_rows(stream: LabelledStream, part: str, warmup_rows: int) -> NDArray[np.bool_]:
    """(N,) whether the service would answer at each row of a part: not during the warm-up of a segment."""
    rows = stream.split.part(part)
    served = np.zeros(len(rows), dtype=np.bool_)
    for first, past in stream.segments(part):
        served[first - rows.start + warmup_rows - 1 : past - rows.start] = True
    return served


def stretch_logits(model: MambaLOB, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T, F) -> (T, H, C), from a zero state."""
    return np.concatenate([logits for _, logits in stretch_pieces(model, rows)])
