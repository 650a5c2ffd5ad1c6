"""Chronological parts of pooled streams, cut at the same instants, with a purge gap at each border.

Streams that cover the same minutes share their borders: otherwise the validation minutes of one
stand in the training part of another, and prices of different venues move together. A label looks
up to the longest horizon ahead, so the rows before a border whose labels would look past it go.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lob.errors import InputError
from training.scratch import PIECE_ROWS

TRAINING_SHARE = 0.6
VALIDATION_SHARE = 0.2


@dataclass(frozen=True, kw_only=True)
class Part:
    """Rows start..stop-1 of a stream."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, kw_only=True)
class Split:
    """A stream's three parts, in time order, none touching the next, and the instants that cut them."""

    training: Part
    validation: Part
    test: Part
    validation_from_ms: int  # exchange time of the first row that is no longer training's
    test_from_ms: int
    reference: str  # the stream whose rows were counted to place the two instants

    def part(self, name: str) -> Part:
        """The part called `name`: training, validation or test."""
        if name not in {"training", "validation", "test"}:
            raise InputError(f"part: {name!r} came, training, validation or test is allowed")
        chosen: Part = getattr(self, name)
        return chosen


def overlapping_groups(spans_ms: Mapping[str, tuple[int, int]]) -> list[list[str]]:
    """Names in groups: two whose spans (first, last) overlap, directly or in a chain, are together."""
    groups: list[list[str]] = []
    latest = 0
    for name in sorted(spans_ms, key=lambda each: spans_ms[each]):
        first, last = spans_ms[name]
        if groups and first <= latest:
            groups[-1].append(name)
            latest = max(latest, last)
        else:
            groups.append([name])
            latest = last
    return groups


def latest_ms(times: NDArray[np.int64], rows: int) -> int:
    """The latest of the first `rows` times (T,): a row's time is the latest seen up to it.

    So a border is one place in every stream, also where the exchange's times step back.
    """
    pieces = (times[start : min(start + PIECE_ROWS, rows)] for start in range(0, rows, PIECE_ROWS))
    return max(int(piece.max()) for piece in pieces)


def first_row_from(times: NDArray[np.int64], from_ms: int) -> int:
    """The first row whose time (T,), the latest seen up to it, is `from_ms` or later; T where none is."""
    for start in range(0, len(times), PIECE_ROWS):
        reached = np.flatnonzero(times[start : start + PIECE_ROWS] >= from_ms)
        if len(reached):
            return start + int(reached[0])
    return len(times)


def split_by_time(
    exchange_ms: Mapping[str, NDArray[np.int64]], *, purge_rows: int, references: Sequence[str] = ()
) -> dict[str, Split]:
    """Training, validation and test part of every stream, 60/20/20 by rows of its group's reference stream.

    `exchange_ms` holds each stream's times (T,), in row order. Streams that overlap in time form a group;
    its reference is the first of `references` in it, else its stream with the most rows. `purge_rows`
    (the longest horizon) rows are dropped before each border. A part may be empty where a stream ends
    early. InputError for an empty stream or an unknown reference.
    """
    for name in references:
        if name not in exchange_ms:
            raise InputError(f"reference: {name!r} came, one of {', '.join(sorted(exchange_ms))} is allowed")
    for name, times in exchange_ms.items():
        if len(times) == 0:
            raise InputError(f"stream {name}: it has no rows, so it cannot be split")
    splits: dict[str, Split] = {}
    for group in overlapping_groups(
        {name: (int(times[0]), latest_ms(times, len(times))) for name, times in exchange_ms.items()}
    ):
        named = [name for name in references if name in group]
        reference = named[0] if named else max(group, key=lambda name: len(exchange_ms[name]))
        times = exchange_ms[reference]
        validation_from_ms = latest_ms(times, 1 + int(len(times) * TRAINING_SHARE))
        test_from_ms = latest_ms(times, 1 + int(len(times) * (TRAINING_SHARE + VALIDATION_SHARE)))
        for name in group:
            first = first_row_from(exchange_ms[name], validation_from_ms)
            second = first_row_from(exchange_ms[name], test_from_ms)
            rows = len(exchange_ms[name])
            splits[name] = Split(
                training=Part(start=0, stop=max(first - purge_rows, 0)),
                validation=Part(start=first, stop=max(second - purge_rows, first)),
                test=Part(start=second, stop=rows),
                validation_from_ms=validation_from_ms,
                test_from_ms=test_from_ms,
                reference=reference,
            )
    return splits
