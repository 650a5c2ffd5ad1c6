"""`ort-window` against the PyTorch model on the same window, at every position of the ring."""

from typing import Any

import numpy as np
import pytest
import torch

from inference.artifact import Artifact
from inference.engines.ort_step import OrtStepEngine
from inference.engines.ort_window import OrtWindowEngine
from lob.errors import ArtifactError
from lob.window import RingWindow


@pytest.fixture
def ring(window_artifact: Artifact) -> RingWindow:
    return RingWindow(window_artifact.manifest.window_length, window_artifact.schema.feature_count)


def test_equals_the_model_at_every_ring_position(
    window_artifact: Artifact, exported: Any, ring: RingWindow
) -> None:
    engine = OrtWindowEngine(window_artifact, ring)
    length = ring.length
    rows = np.random.default_rng(4).normal(size=(3 * length + 1, 44)).astype(np.float32)  # (T, F)
    answered = set()
    for number, row in enumerate(rows, start=1):
        ring.append(row)
        logits = engine.push(ring.latest())
        if number < length:
            assert logits is None
            continue
        with torch.no_grad():
            expected = exported.model.forward_last(torch.from_numpy(rows[number - length : number])[None])
        assert logits is not None
        np.testing.assert_allclose(logits, expected[0].numpy(), atol=1e-5)
        answered.add(ring.position)
    assert answered == set(range(length))


def test_agrees_with_ort_step_on_the_first_window(window_artifact: Artifact, ring: RingWindow) -> None:
    window, step = OrtWindowEngine(window_artifact, ring), OrtStepEngine(window_artifact)
    rows = np.random.default_rng(5).normal(size=(ring.length, 44)).astype(np.float32)
    for row in rows:
        ring.append(row)
        by_window, by_step = window.push(ring.latest()), step.push(ring.latest())
    assert by_window is not None
    assert by_step is not None
    np.testing.assert_allclose(by_window, by_step, atol=1e-5)


def test_a_reset_ring_silences_it_until_full(window_artifact: Artifact, ring: RingWindow) -> None:
    engine = OrtWindowEngine(window_artifact, ring)
    rows = np.random.default_rng(6).normal(size=(ring.length, 44)).astype(np.float32)

    def fill() -> list[bytes | None]:
        answers: list[bytes | None] = []
        for row in rows:
            ring.append(row)
            logits = engine.push(ring.latest())
            answers.append(None if logits is None else logits.tobytes())
        return answers

    first = fill()
    ring.append(rows[0])
    ring.reset()
    engine.reset()
    assert fill() == first
    assert first[:-1] == [None] * (ring.length - 1)
    assert first[-1] is not None


@pytest.mark.parametrize(("length", "features"), [(19, 44), (21, 44), (20, 43)])
def test_refuses_a_ring_of_another_shape(window_artifact: Artifact, length: int, features: int) -> None:
    expected = f"a ring of {length} rows of {features} came, 20 rows of 44 are allowed"
    with pytest.raises(ArtifactError, match=expected):
        OrtWindowEngine(window_artifact, RingWindow(length, features))


def test_describes_itself(window_artifact: Artifact, ring: RingWindow) -> None:
    description = OrtWindowEngine(window_artifact, ring).describe()
    assert description["engine"] == "ort-window"
    assert description["graph"] == description["context"] == "window"
