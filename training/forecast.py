"""A model's logits over part of a stream in the context that is served: state carried from its beginning."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lob.errors import InputError
from models.mamba_lob import MambaLOB
from training.metrics import log_loss, log_softmax
from training.pool import LabelledStream
from training.scratch import scratch_array
from training.thinning import every

CHUNK_ROWS = 512


def stretch_pieces(model: MambaLOB, rows: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(first row, (n, H, C) logits) of rows (T, F), some hundreds at a time, from a zero state."""
    state = model.initial_state(1)
    with torch.no_grad():
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = torch.from_numpy(np.array(rows[start : start + CHUNK_ROWS]))
            logits, *state_after = model.forward_from(chunk[None], *state)
            state = tuple(state_after)
            yield start, logits[0].numpy()


def part_pieces(
    model: MambaLOB, stream: LabelledStream, part: str
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(row of the part, (n, H, C) logits) of all its rows in order, from a zero state in each segment."""
    begin = stream.split.part(part).start
    for first, past in stream.segments(part):
        for start, logits in stretch_pieces(model, stream.dataset.rows[first:past]):
            yield first - begin + start, logits


def part_logits(model: MambaLOB, stream: LabelledStream, part: str) -> NDArray[np.float32]:
    """Logits (N, H, C) for every row of a part; the state starts from zero wherever the book did."""
    shape = (len(stream.split.part(part)), len(model.config.horizons), model.config.classes)
    answers = scratch_array(shape, np.float32)
    for start, logits in part_pieces(model, stream, part):
        answers[start : start + len(logits)] = logits
    return answers


def scored_rows(
    stream: LabelledStream, part: str, warmup_rows: int, *, k: int | None = None
) -> NDArray[np.int64]:
    """(n,) the rows of a part at which the service would answer: of a long part every k-th.

    By default so many as `training.thinning` allows.
    """
    rows = stream.split.part(part)
    k = every(len(rows)) if k is None else k
    found = [np.empty(0, dtype=np.int64)]
    for first, past in stream.segments(part):
        answered = min(first - rows.start + warmup_rows - 1, past - rows.start)
        found.append(np.arange(-(-answered // k) * k, past - rows.start, k))
    return np.concatenate(found)


def validation_log_losses(
    model: MambaLOB, streams: Sequence[LabelledStream], warmup_rows: int
) -> NDArray[np.float64]:
    """(H,) log loss on the validation parts, the mean over `streams` of each stream's own."""
    losses = []
    for stream in streams:
        known = stream.part_labels("validation")
        total, count = np.zeros(len(stream.horizons)), np.zeros(len(stream.horizons))
        segments = stream.segments("validation")
        begin = stream.split.validation.start
        answered = [(first - begin + warmup_rows - 1, past - begin) for first, past in segments]
        place = 0
        for start, logits in part_pieces(model, stream, "validation"):
            while start >= answered[place][1]:
                place += 1
            skipped = max(answered[place][0] - start, 0)
            labels = known[start : start + len(logits)][skipped:]
            for horizon in range(len(stream.horizons)):
                own = labels[:, horizon] >= 0
                if own.any():
                    chosen = log_softmax(logits[skipped:][own, horizon])
                    total[horizon] += log_loss(chosen, labels[own, horizon]) * own.sum()
                    count[horizon] += own.sum()
        if not count.all():
            raise InputError(f"stream {stream.name}: a horizon has no label in its validation part")
        losses.append(total / count)
    return np.asarray(np.mean(losses, axis=0))


def validation_logits(
    model: MambaLOB, streams: Sequence[LabelledStream], warmup_rows: int
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """(N, H, C) logits and (N, H) labels of the validation parts where the service answers, pooled.

    Of long parts together every k-th row.
    """
    k = every(sum(len(stream.split.validation) for stream in streams))
    logits, labels = [], []
    for stream in streams:
        rows = scored_rows(stream, "validation", warmup_rows, k=k)
        labels.append(stream.part_labels("validation")[rows])
        for start, piece in part_pieces(model, stream, "validation"):
            wanted = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + len(piece))]
            logits.append(piece[wanted - start])
    return np.concatenate(logits), np.concatenate(labels)
