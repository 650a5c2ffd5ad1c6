"""Which states may lie once in memory, and that the answers do not depend on it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from inference.artifact import Artifact
from inference.engines import ort_session
from inference.engines.ort_step import OrtStepEngine
from inference.engines.state_in_place import states_in_place
from inference.onnx_weights import OnnxNode, read_nodes
from models.configurations import configuration
from models.mamba_lob import MambaLOB
from training.graph import step_graph


def node(operator: str, inputs: Sequence[str], outputs: Sequence[str]) -> OnnxNode:
    return OnnxNode(operator=operator, inputs=tuple(inputs), outputs=tuple(outputs), floats={})


@pytest.mark.parametrize("block", ["ssd", "s6"])
def test_every_state_of_our_own_graphs(block: Any) -> None:
    model = MambaLOB(configuration(block=block, size="small"))
    nodes = read_nodes(step_graph(model).SerializeToString(), "a graph")
    assert states_in_place(nodes, model.state_names()) == set(model.state_names())


@pytest.mark.parametrize(
    "nodes",
    [
        [node("CausalConvWithState", ["x", "w", "b", "s_in"], ["y", "s_out"])],
        [node("LinearAttention", ["q", "k", "v", "s_in", "g"], ["y", "s_out"])],
        [node("Mul", ["s_in", "a"], ["kept"]), node("Add", ["kept", "b"], ["s_out"])],
    ],
)
def test_patterns_that_may(nodes: list[OnnxNode]) -> None:
    assert states_in_place(nodes, ["s"]) == {"s"}


@pytest.mark.parametrize(
    "nodes",
    [
        # Another operator may write the new state before it has read the old one to its end.
        [node("Scan", ["s_in"], ["s_out"])],
        # A second reader may come after the writer.
        [
            node("LinearAttention", ["q", "k", "v", "s_in", "g"], ["y", "s_out"]),
            node("Relu", ["s_in"], ["z"]),
        ],
        [node("Mul", ["s_in", "a"], ["kept"]), node("Add", ["kept", "s_in"], ["s_out"])],
        # The reader's answer may be the old state under another name.
        [node("Reshape", ["s_in", "shape"], ["kept"]), node("Add", ["kept", "b"], ["s_out"])],
        # Nothing says that the writer comes after the reader.
        [node("Mul", ["s_in", "a"], ["kept"]), node("Add", ["b", "c"], ["s_out"])],
        # Nobody reads, or nobody writes.
        [node("Add", ["b", "c"], ["s_out"])],
        [node("Mul", ["s_in", "a"], ["kept"])],
    ],
)
def test_patterns_that_may_not(nodes: list[OnnxNode]) -> None:
    assert states_in_place(nodes, ["s"]) == set()


def test_one_copy_and_two_give_the_same_bits(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(3).normal(scale=2.0, size=(60, 44)).astype(np.float32)  # (T, F)
    one = OrtStepEngine(artifact)
    monkeypatch.setattr(ort_session, "states_in_place", lambda nodes, states: frozenset())
    two = OrtStepEngine(artifact)
    for row in rows:
        came, wanted = one.push(row), two.push(row)
        assert (came is None) == (wanted is None)
        if came is not None and wanted is not None:
            assert came.tobytes() == wanted.tobytes()
