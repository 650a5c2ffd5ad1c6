"""Engines of one model for several symbols: what they share, and what they must not."""

import tracemalloc
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from inference.artifact import Artifact
from inference.engines.engine import Engine
from inference.engines.selection import create_engine
from lob.errors import ArtifactError
from lob.window import RingWindow

Rows = npt.NDArray[np.float32]

LENGTH, FEATURES = 20, 44
ENGINES = ("fused", "ort-step", "ort-window")


class Symbol:
    """An engine with its ring, written and pushed as a pipeline does."""

    def __init__(self, engine: Engine, ring: RingWindow) -> None:
        self.engine, self.ring = engine, ring

    def push(self, row: Rows) -> bytes | None:
        self.ring.append(row)
        answer = self.engine.push(self.ring.latest())
        return None if answer is None else answer.tobytes()


def alone(name: str, artifact: Artifact) -> Symbol:
    ring = RingWindow(LENGTH, FEATURES)
    return Symbol(create_engine(name, artifact, ring), ring)


def another(one: Symbol) -> Symbol:
    ring = RingWindow(LENGTH, FEATURES)
    return Symbol(one.engine.another(ring), ring)


def streams(count: int, rows: int = 45) -> Rows:
    return np.random.default_rng(count).normal(scale=2.0, size=(count, rows, FEATURES)).astype(np.float32)


@pytest.mark.parametrize("name", ENGINES)
def test_many_symbols_answer_as_each_would_alone_bit_for_bit(artifact: Artifact, name: str) -> None:
    rows = streams(5)
    first = alone(name, artifact)
    first.push(rows[1, 0])  # what the first one has seen is not what the others begin with
    made = [another(first) for _ in range(4)]
    symbols = [first, *made, another(made[0])][1:]
    expected = []
    for stream in rows:
        own = alone(name, artifact)
        expected.append([own.push(row) for row in stream])
    came: list[list[bytes | None]] = [[] for _ in symbols]
    for t in range(rows.shape[1]):
        for place, symbol in enumerate(symbols):
            came[place].append(symbol.push(rows[place, t]))
            if (place, t) == (2, 30):  # in the middle of the others' streams
                symbol.engine.reset()
                symbol.ring.reset()
    assert expected[0][-1] is not None
    for place in (0, 1, 3, 4):
        assert came[place] == expected[place]
    assert came[2][:31] == expected[2][:31]
    own = alone(name, artifact)
    assert came[2][31:] == [own.push(row) for row in rows[2, 31:]]


@pytest.mark.parametrize("name", ENGINES)
def test_a_row_that_is_no_number_stays_with_its_symbol(artifact: Artifact, name: str) -> None:
    healthy, sick, judge = alone(name, artifact), alone(name, artifact), alone(name, artifact)
    healthy = another(sick)
    poisoned = np.full(FEATURES, np.nan, np.float32)
    for row in streams(1)[0]:
        sick.push(poisoned)
        came, wanted = healthy.push(row), judge.push(row)
        assert came == wanted
    answer = sick.engine.push(sick.ring.latest())
    assert answer is not None
    assert np.isnan(answer).any()


@pytest.mark.parametrize("name", ENGINES)
def test_the_model_is_held_once(artifact: Artifact, name: str) -> None:
    """Ten engines more take less than one model, and say the same of themselves."""
    first = alone(name, artifact)
    rings = [RingWindow(LENGTH, FEATURES) for _ in range(10)]
    tracemalloc.start()
    try:
        engines = [first.engine.another(ring) for ring in rings]
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all(one.describe() is two.describe() for one, two in pairwise([first.engine, *engines]))
    assert taken / len(engines) < 40_000


def test_an_engine_for_a_ring_of_another_length_is_refused(artifact: Artifact) -> None:
    first = alone("ort-window", artifact)
    with pytest.raises(ArtifactError, match="window_length: a ring of 21 rows of 44 came, 20 rows of 44"):
        first.engine.another(RingWindow(LENGTH + 1, FEATURES))
