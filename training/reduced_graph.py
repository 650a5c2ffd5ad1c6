"""An exported float32 graph in shorter numbers, for onnxruntime: its large matrices, and nothing else.

    float16    stored as halves, with one `Cast` each that onnxruntime folds while it loads: the file is half
               as long, the arithmetic and its time are those of float32
    int8       whole numbers and scales. A step, one row a product, takes `MatMulNBits` with 8 bits, whose
               inputs become bytes in blocks; a window, a hundred rows, takes `DynamicQuantizeMatMul`, with
               one scale for all of its input. Each was the faster there.

For int8 only matrices above a size are replaced, since quantising the input costs as much as a small product.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from inference.manifest import GraphKind
from inference.precision import GraphPrecision
from lob.errors import InputError
from training.graph_names import read_names

LEAST_INT8_WEIGHTS: Final[dict[GraphKind, int]] = {"step": 32_768, "window": 8_192}
"""Weights a matrix needs for int8 to pay, by the kind of graph (`docs/precision.md` has the measurement)."""

LEAST_HALVES: Final = 256
"""Weights below which a tensor stays as it is: a `Cast` would take as much of the file."""

MICROSOFT: Final = "com.microsoft"
_LARGEST_BLOCK = 256
_SMALLEST_BLOCK = 16
_SMALLEST_PEAK = 1e-30
_LARGEST_BYTE = 127
_BYTE_ZERO = 128


class NothingToReduceError(InputError):
    """No matrix of the graph is large enough for a format to pay."""


Floats = NDArray[np.float32]
_Product = tuple[onnx.NodeProto, list[onnx.TensorProto]]


def reduced_graph(
    graph: bytes, kind: GraphKind, precision: GraphPrecision, *, least_weights: int | None = None
) -> bytes:
    """The `kind` graph with its large matrices in `precision`; names, inputs and metadata stay.

    `least_weights`: how many a matrix needs to be reduced, by default the constants above. Raises
    NothingToReduceError where there is none: it would not pay.
    """
    model = onnx.load_from_string(graph)
    least = least_weights
    if precision == "float16":
        least = LEAST_HALVES if least is None else least
        replaced = _halve(model, least)
    elif precision == "int8":
        least = LEAST_INT8_WEIGHTS[kind] if least is None else least
        replaced = _to_bytes(model, _step_product if kind == "step" else _window_product, least)
    else:
        raise InputError(f"precision: {precision!r} came; float16 and int8 are made from a float32 graph")
    if not replaced:
        largest = max((matrix.size for matrix in _matrices(model).values()), default=0)
        raise NothingToReduceError(
            f"the {kind} graph in {precision}: its largest matrix has {largest:,} weights, and it pays from "
            f"{least:,} on"
        )
    onnx.checker.check_model(model)
    written: bytes = model.SerializeToString(deterministic=True)
    return written


def _halve(model: onnx.ModelProto, least: int) -> int:
    """Store the large float32 tensors as halves; answers how many."""
    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < least:
            continue
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if not np.isfinite(halves).all():
            raise InputError(f"float16: {tensor.name} holds numbers beyond its range, 65,504")
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(halves, f"{name}.float16"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return len(casts)


def _to_bytes(
    model: onnx.ModelProto, product: Callable[[onnx.NodeProto, Floats], _Product], least: int
) -> int:
    """Replace the products with large constant matrices; answers how many."""
    matrices, replaced = _matrices(model), 0
    for node in model.graph.node:
        if node.op_type != "MatMul" or node.input[1] not in matrices:
            continue
        matrix = matrices[node.input[1]]
        if matrix.size < least:
            continue
        quantised, tensors = product(node, matrix)
        node.CopyFrom(quantised)
        model.graph.initializer.extend(tensors)
        replaced += 1
    if replaced and all(opset.domain != MICROSOFT for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    _drop_unread(model)
    return replaced


def _step_product(node: onnx.NodeProto, matrix: Floats) -> _Product:
    """x (1, K) times `matrix` (K, N): bytes around 128, a scale for each block of a column."""
    inputs, outputs = matrix.shape
    block = min(max(_SMALLEST_BLOCK, 1 << (inputs - 1).bit_length()), _LARGEST_BLOCK)
    blocks = -(-inputs // block)
    columns = np.zeros((blocks * block, outputs), np.float32)
    columns[:inputs] = matrix
    parts = columns.T.reshape(outputs, blocks, block)
    scales = np.maximum(np.abs(parts).max(axis=-1), _SMALLEST_PEAK) / _LARGEST_BYTE  # (N, blocks)
    whole = (np.rint(parts / scales[..., None]) + _BYTE_ZERO).astype(np.uint8)  # (N, blocks, block)
    name = node.input[1]
    return helper.make_node(
        "MatMulNBits",
        [node.input[0], f"{name}.int8", f"{name}.scales"],
        list(node.output),
        name=node.name,
        domain=MICROSOFT,
        K=inputs,
        N=outputs,
        bits=8,
        block_size=block,
        accuracy_level=4,  # the product itself in bytes, too
    ), [
        numpy_helper.from_array(whole, f"{name}.int8"),
        numpy_helper.from_array(scales.astype(np.float32), f"{name}.scales"),
    ]


def _window_product(node: onnx.NodeProto, matrix: Floats) -> _Product:
    """x (L, K) times `matrix` (K, N): signed bytes, a scale for each column."""
    scales = (np.maximum(np.abs(matrix).max(axis=0), _SMALLEST_PEAK) / _LARGEST_BYTE).astype(np.float32)
    whole = np.rint(matrix / scales).astype(np.int8)
    name = node.input[1]
    return helper.make_node(
        "DynamicQuantizeMatMul",
        [node.input[0], f"{name}.int8", f"{name}.scales"],
        list(node.output),
        name=node.name,
        domain=MICROSOFT,
    ), [
        numpy_helper.from_array(whole, f"{name}.int8"),
        numpy_helper.from_array(scales, f"{name}.scales"),
    ]


def _matrices(model: onnx.ModelProto) -> dict[str, Floats]:
    """The constant float32 matrices by name."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {name: values for name, values in found.items() if values.ndim == 2 and values.dtype == np.float32}


def _drop_unread(model: onnx.ModelProto) -> None:
    read = read_names(model.graph)
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
