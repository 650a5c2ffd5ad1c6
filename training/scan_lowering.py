"""The scan of an S6 window as an ONNX Scan, which `torch.onnx` has no way to write with every axis open.

The trace holds one placeholder node for it (`models.operators.state_space_scan`); here that becomes a Scan
whose body is one row of the recurrence, on long vectors. Of what onnxruntime offers it was the fastest by
far: `docs/onnx-graphs.md` has the measurement.
"""

import onnx_ir
from onnx_ir import convenience

from models.operators import SCAN, SCAN_DOMAIN

TIME_AXIS = 1
INPUTS = ("dt", "v", "k", "q")


def lower_scans(model: onnx_ir.Model) -> None:
    """Replace every placeholder in `model`."""
    placeholders = [node for node in model.graph if (node.domain, node.op_type) == (SCAN_DOMAIN, SCAN)]
    for node in placeholders:
        state, *sequences, rates = node.inputs
        assert state is not None
        assert rates is not None
        scan = onnx_ir.Node(
            "",
            "Scan",
            [state, *sequences],
            [
                onnx_ir.AttrGraph("body", _body(rates, f"{node.outputs[0].name}_row")),
                onnx_ir.AttrInt64("num_scan_inputs", len(sequences)),
                onnx_ir.AttrInt64s("scan_input_axes", [TIME_AXIS] * len(sequences)),
                onnx_ir.AttrInt64s("scan_output_axes", [TIME_AXIS]),
            ],
            num_outputs=2,
        )
        scan.outputs[1].shape, scan.outputs[1].type = node.outputs[0].shape, node.outputs[0].type
        convenience.replace_nodes_and_values(
            model.graph, node, [node], [scan], [node.outputs[0]], [scan.outputs[1]]
        )


def _body(rates: onnx_ir.Value, name: str) -> onnx_ir.Graph:
    """S = exp(dt rates) S + k v, y = q S: state (B, N, E), dt and v (B, 1, E), k (B, N, 1), q (B, 1, N)."""
    number = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
    state, dt, v, k, q = (
        onnx_ir.Value(name=f"{name}_{each}", type=number, shape=onnx_ir.Shape([None, None, None]))
        for each in ("state", *INPUTS)
    )
    nodes: list[onnx_ir.Node] = []

    def put(operator: str, *inputs: onnx_ir.Value) -> onnx_ir.Value:
        node = onnx_ir.Node("", operator, inputs)
        node.outputs[0].name, node.outputs[0].type = f"{name}_{len(nodes)}", number
        nodes.append(node)
        return node.outputs[0]

    decay = put("Exp", put("Mul", rates, dt))
    new = put("Add", put("Mul", decay, state), put("MatMul", k, v))
    y = put("MatMul", q, new)
    return onnx_ir.Graph([state, dt, v, k, q], [new, y], nodes=nodes, name=name)
