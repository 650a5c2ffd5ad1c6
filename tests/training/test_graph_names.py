"""What a graph reads: through bodies within bodies, whatever they are in."""

import onnx
from onnx import TensorProto, helper

from training.graph_names import read_names


def conditional(name: str, body: onnx.NodeProto) -> onnx.NodeProto:
    """An `If` named by what it decides on, with `body` in both branches."""
    output = helper.make_tensor_value_info(body.output[0], TensorProto.FLOAT, None)
    branch = helper.make_graph([body], name, [], [output])
    return helper.make_node("If", [name], [f"{name}.out"], then_branch=branch, else_branch=branch)


def test_what_only_a_body_within_a_body_reads_is_read():
    inner = helper.make_node("Mul", ["row", "deep.weight"], ["product"])
    node = conditional("outer", conditional("inner", inner))
    graph = helper.make_graph([node, helper.make_node("Neg", ["row"], ["unread"])], "both", [], [])
    assert read_names(graph) == {"outer", "inner", "row", "deep.weight"}
