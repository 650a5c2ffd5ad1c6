"""Shorter graphs: near what they were made from, smaller, the same from outside; refused without use."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from inference.engines.ort_session import new_session
from inference.manifest import GraphKind
from lob.errors import InputError
from training.reduced_graph import LEAST_INT8_WEIGHTS, NothingToReduceError, reduced_graph


def answers(graph: bytes, kind: GraphKind, rows: np.ndarray) -> np.ndarray:
    """(H, C) logits after some rows, the state handed on."""
    session = new_session(graph, kind, kind)
    if kind == "window":
        return session.run(["logits"], {"window": rows[None]})[0][0]
    state = {
        each.name: np.zeros(each.shape, np.float32) for each in session.get_inputs() if each.name != "row"
    }
    names = [each.name for each in session.get_outputs()]
    for row in rows:
        given = dict(zip(names, session.run(names, {"row": row[None], **state}), strict=True))
        state = {name: given[name.removesuffix("_in") + "_out"] for name in state}
    return given["logits"][0]


@pytest.mark.parametrize("block", ["ssd", "s6"])
@pytest.mark.parametrize("kind", ["step", "window"])
@pytest.mark.parametrize(("precision", "near"), [("float16", 0.02), ("int8", 0.4)])
def test_nearly_the_same_answers_from_a_smaller_file(
    model_graphs, spot_dataset, block, kind, precision, near
):
    graph = model_graphs(block, "nano")[kind]
    rows = spot_dataset.rows[:100]
    reduced = reduced_graph(graph, kind, precision, least_weights=512)
    difference = np.abs(answers(reduced, kind, rows) - answers(graph, kind, rows)).max()
    assert 1e-6 < difference < near
    assert len(reduced) < 0.9 * len(graph)
    came, wanted = onnx.load_from_string(reduced), onnx.load_from_string(graph)
    assert list(came.graph.input) == list(wanted.graph.input)
    assert list(came.graph.output) == list(wanted.graph.output)
    assert list(came.metadata_props) == list(wanted.metadata_props)
    assert reduced == reduced_graph(graph, kind, precision, least_weights=512)


def test_each_kind_takes_the_operator_that_was_faster(model_graphs):
    faster: dict[GraphKind, str] = {"step": "MatMulNBits", "window": "DynamicQuantizeMatMul"}
    for kind, operator in faster.items():
        graph = model_graphs("ssd", "nano")[kind]
        operators = {
            node.op_type
            for node in onnx.load_from_string(
                reduced_graph(graph, kind, "int8", least_weights=512)
            ).graph.node
        }
        assert operator in operators


@pytest.mark.parametrize(("kind", "largest"), [("step", "5,184"), ("window", "3,136")])
def test_int8_is_refused_where_no_matrix_is_large_enough(model_graphs, kind, largest):
    graph = model_graphs("ssd", "nano")[kind]
    with pytest.raises(
        NothingToReduceError, match=f"the {kind} graph in int8: its largest matrix has {largest} "
    ):
        reduced_graph(graph, kind, "int8")
    assert LEAST_INT8_WEIGHTS[kind] > 5_184


def test_the_size_from_which_a_format_pays_is_the_one_that_was_asked_for(model_graphs):
    graph = model_graphs("ssd", "nano")["step"]
    with pytest.raises(NothingToReduceError, match=r"in float16: .* and it pays from 1,000,000 on"):
        reduced_graph(graph, "step", "float16", least_weights=1_000_000)


def test_float32_is_no_shorter_format(model_graphs):
    with pytest.raises(InputError, match="precision: 'float32' came; float16 and int8 are made"):
        reduced_graph(model_graphs("ssd", "nano")["step"], "step", "float32")


def test_a_weight_beyond_the_range_of_float16_is_refused(model_graphs):
    graph = onnx.load_from_string(model_graphs("ssd", "nano")["step"])
    (tensor,) = [each for each in graph.graph.initializer if each.name == "embedding.weight"]
    values = numpy_helper.to_array(tensor).copy()
    values[0, 0] = 70_000
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with pytest.raises(InputError, match=r"float16: embedding\.weight holds numbers beyond its range"):
        reduced_graph(graph.SerializeToString(), "step", "float16")
