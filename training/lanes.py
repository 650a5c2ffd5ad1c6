"""Dense supervision: training parts cut into lanes, contiguous stretches that run side by side in a batch.

A lane starts from a zero state, as serving does after a snapshot; its state is then carried from chunk to
chunk. No lane crosses a segment. Where the cuts fall, which lanes run together and which are reflected is
drawn anew for every epoch from the generator given, and from nothing else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from training.mirror import reflect_labels, reflection
from training.pool import LabelledStream

SHORTEST_LANE_ROWS = 32


@dataclass(frozen=True, kw_only=True)
class Lane:
    """Rows start..stop-1 of one stream, all of one segment."""

    stream: int  # index into the streams
    start: int
    stop: int
    reflected: bool


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Lanes side by side, as long as the longest; a shorter lane ends in zeros that have no label."""

    rows: NDArray[np.float32]  # (B, T, F)
    labels: NDArray[np.int64]  # (B, T, H), -1 where there is none


def cut_lanes(
    streams: Sequence[LabelledStream], lane_rows: int, generator: np.random.Generator, *, reflect: bool
) -> list[Lane]:
    """The training parts in lanes of at most `lane_rows`, the first cut of each segment at a random place."""
    lanes = []
    for index, stream in enumerate(streams):
        for first, past in stream.segments("training"):
            offset = int(generator.integers(1, lane_rows + 1))
            edges = [first, *range(first + offset, past, lane_rows), past]
            for start, stop in pairwise(edges):
                reflected = bool(reflect and generator.random() < 0.5)
                if stop - start >= SHORTEST_LANE_ROWS:
                    lanes.append(Lane(stream=index, start=start, stop=stop, reflected=reflected))
    return lanes


def group_lanes(lanes: Sequence[Lane], count: int, generator: np.random.Generator) -> list[list[Lane]]:
    """Lanes in groups of `count`, each of about equal length, groups and their members in random order."""
    shuffled = [lanes[index] for index in generator.permutation(len(lanes))]
    shuffled.sort(key=lambda lane: lane.start - lane.stop)  # longest first; equals stay shuffled
    groups = [shuffled[start : start + count] for start in range(0, len(shuffled), count)]
    return [groups[index] for index in generator.permutation(len(groups))]


def load_batch(streams: Sequence[LabelledStream], lanes: Sequence[Lane]) -> Batch:
    """The rows and labels of `lanes`."""
    schema = streams[0].dataset.schema
    longest = max(lane.stop - lane.start for lane in lanes)
    rows = np.zeros((len(lanes), longest, schema.feature_count), dtype=np.float32)
    labels = np.full((len(lanes), longest, streams[0].labels.shape[1]), -1, dtype=np.int64)
    columns, signs = reflection(schema)
    for place, lane in enumerate(lanes):
        stream = streams[lane.stream]
        lane_rows = stream.dataset.rows[lane.start : lane.stop]
        lane_labels = stream.labels[lane.start : lane.stop]
        if lane.reflected:
            lane_rows = lane_rows[:, columns] * signs
            lane_labels = reflect_labels(lane_labels)
        rows[place, : len(lane_rows)] = lane_rows
        labels[place, : len(lane_labels)] = lane_labels
    return Batch(rows=rows, labels=labels)


def epoch_batches(
    streams: Sequence[LabelledStream],
    *,
    lane_rows: int,
    lanes: int,
    reflect: bool,
    generator: np.random.Generator,
) -> Iterator[tuple[Batch, float, float]]:
    """Every batch of an epoch, with the shares of the epoch's rows that are done before it and after it."""
    groups = group_lanes(cut_lanes(streams, lane_rows, generator, reflect=reflect), lanes, generator)
    lengths = [max(lane.stop - lane.start for lane in group) for group in groups]
    done, total = 0, sum(lengths)
    for group, length in zip(groups, lengths, strict=True):
        yield load_batch(streams, group), done / total, (done + length) / total
        done += length
