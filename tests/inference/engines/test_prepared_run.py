"""The prepared call, through onnxruntime's private binding and through its public method."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from inference.artifact import Artifact
from inference.engines.ort_session import open_graph
from inference.engines.prepared_run import prepared_run
from inference.graph_interface import graph_inputs, graph_outputs


class PublicOnly:
    """A session that shows its public methods alone, as a later onnxruntime might."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self.io_binding = session.io_binding
        self.run_with_iobinding = session.run_with_iobinding


@pytest.fixture(scope="module")
def session(artifact: Artifact) -> ort.InferenceSession:
    return open_graph(artifact.directory, "step", artifact.manifest, 44).session


@pytest.fixture
def buffers(artifact: Artifact) -> tuple[dict[str, Any], dict[str, Any]]:
    generator = np.random.default_rng(0)
    inputs = graph_inputs(artifact.manifest, "step", 44)
    outputs = graph_outputs(artifact.manifest, "step")
    return (
        {name: generator.normal(size=shape).astype(np.float32) for name, shape in inputs.items()},
        {name: np.zeros(shape, np.float32) for name, shape in outputs.items()},
    )


@pytest.mark.parametrize("view", [lambda session: session, PublicOnly], ids=["private", "public"])
def test_both_ways_give_what_run_gives(
    session: ort.InferenceSession,
    buffers: tuple[dict[str, Any], dict[str, Any]],
    view: Callable[[ort.InferenceSession], Any],
) -> None:
    inputs, outputs = buffers
    run = prepared_run(view(session), inputs, outputs)
    for seed in (1, 2):
        inputs["row"][:] = np.random.default_rng(seed).normal(size=(1, 44))
        run()
        expected = session.run(list(outputs), inputs)
        for came, wanted in zip(outputs.values(), expected, strict=True):
            assert came.tobytes() == wanted.tobytes()


def test_the_private_way_is_the_one_taken(
    session: ort.InferenceSession, buffers: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    run = prepared_run(session, *buffers)
    assert run.func == session._sess.run_with_iobinding  # type: ignore[attr-defined]  # a functools.partial


def test_memory_that_a_pointer_cannot_stand_for_is_refused(
    session: ort.InferenceSession, buffers: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    inputs, outputs = buffers
    with pytest.raises(AssertionError, match="row: float64 came"):
        prepared_run(session, {**inputs, "row": inputs["row"].astype(np.float64)}, outputs)
    with pytest.raises(AssertionError, match="row: only a C-contiguous"):
        prepared_run(session, {**inputs, "row": np.zeros((1, 88), np.float32)[:, ::2]}, outputs)
