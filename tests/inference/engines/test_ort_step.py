"""`ort-step` against the PyTorch model it was exported from, and its own promises about memory and reset."""

import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from inference.artifact import Artifact
from inference.engines.ort_step import OrtStepEngine

Rows = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def rows() -> Rows:
    return np.random.default_rng(3).normal(scale=2.0, size=(60, 44)).astype(np.float32)  # (T, F)


def answers(engine: OrtStepEngine, rows: Rows) -> list[Rows | None]:
    """A copy of what each push answered."""
    pushed = (engine.push(row) for row in rows)
    return [None if answer is None else answer.copy() for answer in pushed]


def test_equals_the_model_stepped_in_pytorch(artifact: Artifact, exported: Any, rows: Rows) -> None:
    engine = OrtStepEngine(artifact)
    state = exported.model.initial_state(1)
    for number, row in enumerate(rows, start=1):
        with torch.no_grad():
            expected, *state = exported.model.step(torch.from_numpy(row)[None], *state)
        logits = engine.push(row)
        if number < artifact.manifest.warmup_rows:
            assert logits is None
        else:
            assert logits is not None
            assert logits.shape == (3, 3)
            assert logits.dtype == np.float32
            np.testing.assert_allclose(logits, expected[0].numpy(), atol=1e-5)


def test_the_state_counts(artifact: Artifact, rows: Rows) -> None:
    """The same row after another past gives another answer, or the tests here would prove little."""
    engine = OrtStepEngine(artifact)
    first = answers(engine, rows)[-1]
    engine.reset()
    second = answers(engine, np.concatenate([-rows[:-1], rows[-1:]]))[-1]
    assert first is not None
    assert second is not None
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("pushed_before", [1, 2, 17])
def test_reset_starts_from_nothing_bit_for_bit(artifact: Artifact, rows: Rows, pushed_before: int) -> None:
    engine = OrtStepEngine(artifact)
    expected = answers(engine, rows)
    for row in rows[:pushed_before]:
        engine.push(row)
    engine.reset()
    for came, wanted in zip(answers(engine, rows), expected, strict=True):
        if wanted is None:
            assert came is None
        else:
            assert came is not None
            assert came.tobytes() == wanted.tobytes()


def test_the_answer_is_overwritten_by_the_next_push(artifact: Artifact, rows: Rows) -> None:
    engine = OrtStepEngine(artifact)
    views = [engine.push(row) for row in rows[:10]]
    last, one_before = views[-1], views[-2]
    assert last is not None
    assert one_before is not None
    assert np.shares_memory(last, one_before)


def test_the_row_is_only_read_and_not_kept(artifact: Artifact, rows: Rows) -> None:
    engine, other = OrtStepEngine(artifact), OrtStepEngine(artifact)
    scratch = np.empty(44, np.float32)
    for row in rows:
        scratch[:] = row
        came = engine.push(scratch)
        assert scratch.tobytes() == row.tobytes()
        scratch.fill(np.nan)
        wanted = other.push(row)
        assert (came is None) == (wanted is None)
        if came is not None and wanted is not None:
            assert came.tobytes() == wanted.tobytes()


def test_values_that_are_not_finite_come_out_and_reset_heals(artifact: Artifact, rows: Rows) -> None:
    engine = OrtStepEngine(artifact)
    expected = answers(engine, rows)[-1]
    poisoned = rows[0].copy()
    poisoned[:] = np.nan
    engine.push(poisoned)
    sick = engine.push(rows[1])
    assert sick is not None
    assert np.isnan(sick).all()
    engine.reset()
    healed = answers(engine, rows)[-1]
    assert healed is not None
    assert expected is not None
    assert healed.tobytes() == expected.tobytes()


def test_a_push_allocates_nothing_that_stays(artifact: Artifact, rows: Rows) -> None:
    engine = OrtStepEngine(artifact)
    answers(engine, rows)
    tracemalloc.start()
    try:
        for row in rows[:20]:
            engine.push(row)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(20):
            for row in rows:
                engine.push(row)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2_000  # 1,200 pushes


def test_describes_itself(artifact: Artifact) -> None:
    description = OrtStepEngine(artifact).describe()
    assert description["model"] == "tiny"
    assert description["engine"] == "ort-step"
    assert description["graph"] == "step"
    assert description["context"] == description["trained_context"] == "stream"
    assert description["precision"] == "float32"
    assert int(description["graph_nodes"]) > 5


def test_says_that_it_serves_another_context(window_artifact: Artifact) -> None:
    description = OrtStepEngine(window_artifact).describe()
    assert (description["context"], description["trained_context"]) == ("stream", "window")
