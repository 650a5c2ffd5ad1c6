"""Several data sets as one body of training material: split by time together, labelled each by its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lob.errors import InputError
from lob.labels import classify, label_threshold, mean_future_mid_change
from training.dataset import Dataset, segment_bounds
from training.metrics import CLASSES
from training.scratch import PIECE_ROWS, scratch_array
from training.splits import Split, split_by_time
from training.thinning import every

HORIZONS = (10, 50, 100)


@dataclass(frozen=True, kw_only=True)
class LabelledStream:
    """A stream, its three parts, and the class of every row at every horizon."""

    dataset: Dataset
    split: Split
    horizons: tuple[int, ...]  # rows
    thresholds: tuple[float, ...]  # (H,) relative change of the mid, from the training part
    labels: NDArray[np.int8]  # (T, H) 0 down, 1 flat, 2 up, -1 no label

    @property
    def name(self) -> str:
        """The stream's name."""
        return self.dataset.name

    def segments(self, part: str) -> list[tuple[int, int]]:
        """(first, past the last) row of each unbroken stretch of a part."""
        rows = self.split.part(part)
        return segment_bounds(self.dataset.segments, rows.start, rows.stop)

    def part_labels(self, part: str) -> NDArray[np.int8]:
        """Labels of a part, (N, H)."""
        rows = self.split.part(part)
        return self.labels[rows.start : rows.stop]

    def shares(self, part: str) -> NDArray[np.float64]:
        """(H, C) share of each class among a part's labelled rows; zeros where there are none."""
        labels = self.part_labels(part)
        counts = np.zeros((len(self.horizons), CLASSES), dtype=np.int64)
        for start in range(0, len(labels), PIECE_ROWS):
            piece = labels[start : start + PIECE_ROWS]
            counts += np.stack([(piece == label).sum(axis=0) for label in range(CLASSES)], axis=1)
        return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def pool_streams(
    datasets: Sequence[Dataset], *, horizons: Sequence[int] = HORIZONS, references: Sequence[str] = ()
) -> list[LabelledStream]:
    """The data sets split by time together and labelled.

    The thresholds of a stream make the classes of its own training part as near thirds as its mids allow.
    Raises InputError where two share a name, schema or sampling differ, or a training part has no labels.
    """
    if not datasets:
        raise InputError("data: no data set came, at least one is needed")
    first = datasets[0].manifest
    for dataset in datasets[1:]:
        for field in ("schema", "sampling"):
            came, wanted = getattr(dataset.manifest, field), getattr(first, field)
            if came != wanted:
                raise InputError(
                    f"data: {dataset.name} has {field} {came}, {first.name} has {wanted}; "
                    "what is pooled must be built alike"
                )
    names = [dataset.name for dataset in datasets]
    if len(set(names)) != len(names):
        raise InputError(f"data: the names {', '.join(names)} came, each may stand once")
    splits = split_by_time(
        {dataset.name: dataset.exchange_ms for dataset in datasets},
        purge_rows=max(horizons),
        references=references,
    )
    return [label_stream(dataset, splits[dataset.name], tuple(horizons)) for dataset in datasets]


def label_stream(
    dataset: Dataset,
    split: Split,
    horizons: tuple[int, ...],
    *,
    thresholds: tuple[float, ...] | None = None,
) -> LabelledStream:
    """The stream with the class of every row, by `thresholds` (H,), else by those of its training part."""
    if thresholds is None:
        thresholds = training_thresholds(dataset, split, horizons)
    labels = scratch_array((len(dataset.mid_half_ticks), len(horizons)), np.int8)
    for start, changes in change_pieces(dataset, horizons):
        for column, threshold in enumerate(thresholds):
            labels[start : start + len(changes), column] = classify(changes[:, column], threshold)
    return LabelledStream(
        dataset=dataset, split=split, horizons=horizons, thresholds=thresholds, labels=labels
    )


def training_thresholds(dataset: Dataset, split: Split, horizons: tuple[int, ...]) -> tuple[float, ...]:
    """(H,) thresholds at which a third of the training part's changes is flat, or 0 where more is."""
    part = split.training
    k = every(len(part))
    kept = [np.empty((0, len(horizons)))]
    for start, changes in change_pieces(dataset, horizons):
        if start >= part.stop:
            break
        first = part.start + -(-max(0, start - part.start) // k) * k
        kept.append(changes[first - start : part.stop - start : k].copy())
    training = np.concatenate(kept)  # at most thinning.MAXIMUM_ROWS
    thresholds = []
    for column, horizon in enumerate(horizons):
        if np.isnan(training[:, column]).all():
            raise InputError(
                f"stream {dataset.name}: its training part of {len(part)} rows has no label at "
                f"horizon {horizon}; more rows are needed"
            )
        thresholds.append(label_threshold(training[:, column]))
    return tuple(thresholds)


def change_pieces(dataset: Dataset, horizons: Sequence[int]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """(first row, (n, H) changes) of all rows in order, some thousands at a time.

    A change is the mean of the next k mids against the mid, relative; nan where a segment ends before the
    k-th.
    """
    for first, past in segment_bounds(dataset.segments, 0, len(dataset.segments)):
        for start in range(first, past, PIECE_ROWS):
            stop = min(start + PIECE_ROWS, past)
            changes = np.empty((stop - start, len(horizons)))
            for column, horizon in enumerate(horizons):
                mids = dataset.mid_half_ticks[start : min(stop + horizon, past)].astype(np.float64)
                changes[:, column] = mean_future_mid_change(mids, horizon)[: stop - start]
            yield start, changes
