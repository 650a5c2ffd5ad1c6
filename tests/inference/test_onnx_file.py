"""`inference.onnx_file` against the onnx package on the same bytes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from inference.onnx_file import summarize_graph
from lob.errors import ArtifactError


def count(graph: onnx.GraphProto) -> int:
    """Nodes with those of subgraphs, by the onnx package."""
    total = len(graph.node)
    for node in graph.node:
        for attribute in node.attribute:
            total += count(attribute.g) if attribute.type == onnx.AttributeProto.GRAPH else 0
            total += sum(count(inner) for inner in attribute.graphs)
    return total


def branching_model() -> onnx.ModelProto:
    """An If node with a node in each branch, and a Constant."""

    def branch(name: str, operator: str) -> onnx.GraphProto:
        return helper.make_graph(
            [helper.make_node(operator, ["x"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])],
        )

    condition = numpy_helper.from_array(np.array(True), "condition")
    nodes = [
        helper.make_node("Constant", [], ["condition"], value=condition),
        helper.make_node(
            "If", ["condition"], ["y"], then_branch=branch("a", "Neg"), else_branch=branch("b", "Abs")
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "branching",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    return helper.make_model(graph)


def test_counts_the_nodes_of_exported_graphs(exported: Any) -> None:
    for kind in ("step", "window"):
        model = onnx.load_from_string(exported.graphs[kind])
        summary = summarize_graph(exported.graphs[kind], kind)
        assert summary.nodes == count(model.graph) + sum(len(function.node) for function in model.functions)
        assert summary.nodes > 5
        assert summary.external_tensors == ()


def test_counts_subgraphs() -> None:
    assert summarize_graph(branching_model().SerializeToString(), "m").nodes == 4


def test_finds_weights_kept_in_another_file(exported: Any, tmp_path: Path) -> None:
    model = onnx.load_from_string(exported.graphs["step"])
    onnx.save(
        model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=64, location="weights.bin"
    )
    summary = summarize_graph((tmp_path / "m.onnx").read_bytes(), "m")
    outside = [tensor.name for tensor in model.graph.initializer if len(tensor.raw_data) >= 64]
    loaded = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    outside = [
        tensor.name for tensor in loaded.graph.initializer if tensor.data_location == TensorProto.EXTERNAL
    ]
    assert list(summary.external_tensors) == outside
    assert outside


def test_finds_an_external_tensor_in_an_attribute() -> None:
    model = branching_model()
    tensor = model.graph.node[0].attribute[0].t
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    assert summarize_graph(model.SerializeToString(), "m").external_tensors == ("condition",)


@pytest.mark.parametrize("cut", [1, 2, 10, 100])
def test_a_cut_file_is_refused(exported: Any, cut: int) -> None:
    with pytest.raises(ArtifactError, match=r"^some\.onnx: not an ONNX file"):
        summarize_graph(exported.graphs["step"][:-cut], "some.onnx")


@pytest.mark.parametrize("content", [b"", b"\x00", b"\xff" * 20, b"PK\x03\x04", b"hello, world", b"\x3a\x00"])
def test_other_content_is_refused(content: bytes) -> None:
    with pytest.raises(ArtifactError, match="not an ONNX file"):
        summarize_graph(content, "some.onnx")
