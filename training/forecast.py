"""A model's logits over part of a stream in the context that is served: state carried from its beginning."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from models.mamba_lob import MambaLOB
from training.metrics import log_loss, log_softmax
from training.pool import LabelledStream

CHUNK_ROWS = 512


def stretch_logits(model: MambaLOB, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T, F) -> (T, H, C), from a zero state."""
    state = model.initial_state(1)
    pieces = []
    with torch.no_grad():
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = torch.from_numpy(np.ascontiguousarray(rows[start : start + CHUNK_ROWS]))
            logits, *state_after = model.forward_from(chunk[None], *state)
            state = tuple(state_after)
            pieces.append(logits[0].numpy())
    return np.concatenate(pieces)


def part_logits(model: MambaLOB, stream: LabelledStream, part: str) -> NDArray[np.float32]:
    """Logits (N, H, C) for every row of a part; the state starts from zero wherever the book did."""
    pieces = [stretch_logits(model, stream.dataset.rows[first:past]) for first, past in stream.segments(part)]
    shape = (0, len(model.config.horizons), model.config.classes)
    return np.concatenate([np.empty(shape, dtype=np.float32), *pieces])


def served_rows(stream: LabelledStream, part: str, warmup_rows: int) -> NDArray[np.bool_]:
    """(N,) whether the service would answer at each row of a part: not during the warm-up of a segment."""
    rows = stream.split.part(part)
    served = np.zeros(len(rows), dtype=np.bool_)
    for first, past in stream.segments(part):
        served[first - rows.start + warmup_rows - 1 : past - rows.start] = True
    return served


def validation_log_losses(
    model: MambaLOB, streams: Sequence[LabelledStream], warmup_rows: int
) -> NDArray[np.float64]:
    """(H,) log loss on the validation parts, the mean over `streams` of each stream's own."""
    losses = []
    for stream in streams:
        served = served_rows(stream, "validation", warmup_rows)
        logits = part_logits(model, stream, "validation")[served]
        labels = stream.part_labels("validation")[served]
        for horizon in range(labels.shape[1]):
            known = labels[:, horizon] >= 0
            losses.append(log_loss(log_softmax(logits[known, horizon]), labels[known, horizon]))
    return np.asarray(np.reshape(losses, (len(streams), -1)).mean(axis=0))
