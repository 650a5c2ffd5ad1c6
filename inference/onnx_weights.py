"""The weights and nodes of an ONNX file without the onnx package, which the serving install leaves out.

Read from the protobuf wire format (onnx.proto3 gives the field numbers): initializers as arrays by their
name, and the nodes with what they read and write, so that a number without a name of its own (a bound of
`Clip`) is found by who reads it. Values that lie in another file are refused.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.protobuf_wire import Value, fields, nested, varint
from lob.errors import ArtifactError

_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE = 1, 2, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_FLOAT = 1, 2
_TENSOR_DIMENSIONS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 8, 9
_TENSOR_TYPED = (4, 5, 6, 7, 10, 11)  # values as repeated numbers instead of raw bytes
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14

_TYPES: dict[int, str] = {1: "<f4", 6: "<i4", 7: "<i8", 9: "|b1", 10: "<f2", 11: "<f8"}

Tensor = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class OnnxNode:
    """A node of the graph: its operator, the names it reads and writes, its attributes that are floats."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    floats: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class OnnxWeights:
    """The initializers of a graph by name, its nodes, and where they came from, for messages."""

    source: str
    tensors: dict[str, Tensor]
    nodes: tuple[OnnxNode, ...]

    def tensor(self, name: str, shape: tuple[int, ...] | None = None) -> Tensor:
        """The float32 initializer `name`, of `shape` where one is given; raises ArtifactError otherwise."""
        found = self.tensors.get(name)
        if found is None:
            raise ArtifactError(f"{self.source}: initializer {name}: none came")
        if found.dtype != np.float32:
            raise ArtifactError(f"{self.source}: initializer {name}: {found.dtype} came, float32 is allowed")
        if shape is not None and found.shape != shape:
            raise ArtifactError(
                f"{self.source}: initializer {name}: shape {list(found.shape)} came, {list(shape)} is allowed"
            )
        return found

    def number(self, name: str) -> float:
        """The one number in the initializer `name`; raises ArtifactError where there is not just one."""
        found = self.tensors.get(name)
        if found is None or found.size != 1:
            shape = "nothing" if found is None else f"shape {list(found.shape)}"
            raise ArtifactError(f"{self.source}: initializer {name}: {shape} came, one number is allowed")
        return float(found.reshape(())[()])


def read_weights(model: bytes, source: str) -> OnnxWeights:
    """What `model`, the bytes of an ONNX file, holds; `source` names it in messages.

    Arrays are read-only views of `model`. Raises ArtifactError where it is not an ONNX file, or keeps a
    tensor in another file or in a type or field that weights do not come in.
    """
    tensors: dict[str, Tensor] = {}
    nodes: list[OnnxNode] = []
    try:
        for number, value in fields(memoryview(model)):
            if number != _MODEL_GRAPH:
                continue
            for part, content in fields(nested(value)):
                if part == _GRAPH_NODE:
                    nodes.append(_node(nested(content)))
                elif part == _GRAPH_INITIALIZER:
                    name, tensor = _tensor(nested(content), source)
                    tensors[name] = tensor
    except (ValueError, IndexError, struct.error) as error:
        raise ArtifactError(f"{source}: not an ONNX file: {error}") from error
    if not nodes:
        raise ArtifactError(f"{source}: not an ONNX file: no graph node in it")
    return OnnxWeights(source=source, tensors=tensors, nodes=tuple(nodes))


def read_nodes(model: bytes, source: str) -> tuple[OnnxNode, ...]:
    """The nodes of the main graph of `model` in their order, whatever its tensors are.

    Raises ArtifactError where it is not an ONNX file.
    """
    try:
        return tuple(
            _node(nested(content))
            for number, value in fields(memoryview(model))
            if number == _MODEL_GRAPH
            for part, content in fields(nested(value))
            if part == _GRAPH_NODE
        )
    except (ValueError, IndexError, struct.error) as error:
        raise ArtifactError(f"{source}: not an ONNX file: {error}") from error


def _node(node: memoryview) -> OnnxNode:
    operator, inputs, outputs = "", [], []
    floats: dict[str, float] = {}
    for number, value in fields(node):
        if number == _NODE_INPUT:
            inputs.append(_text(value))
        elif number == _NODE_OUTPUT:
            outputs.append(_text(value))
        elif number == _NODE_OPERATOR:
            operator = _text(value)
        elif number == _NODE_ATTRIBUTE:
            name = ""
            for inner, content in fields(nested(value)):
                if inner == _ATTRIBUTE_NAME:
                    name = _text(content)
                elif inner == _ATTRIBUTE_FLOAT:
                    (floats[name],) = struct.unpack("<f", nested(content))
    return OnnxNode(operator=operator, inputs=tuple(inputs), outputs=tuple(outputs), floats=floats)


def _tensor(tensor: memoryview, source: str) -> tuple[str, Tensor]:
    name, kind, shape = "", 0, []
    raw: memoryview | None = None
    external = typed = False
    for number, value in fields(tensor):
        if number == _TENSOR_NAME:
            name = _text(value)
        elif number == _TENSOR_TYPE:
            kind = int(value) if isinstance(value, int) else 0
        elif number == _TENSOR_DIMENSIONS:
            shape += _numbers(value)
        elif number == _TENSOR_RAW:
            raw = nested(value)
        elif number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value == 1):
            external = True
        elif number in _TENSOR_TYPED:
            typed = True
    if external:
        raise ArtifactError(
            f"{source}: tensor {name}: values in another file came, "
            "only values inside the graph file are allowed"
        )
    if kind not in _TYPES or (typed and raw is None):
        raise ArtifactError(
            f"{source}: initializer {name}: type {kind} came, types {sorted(_TYPES)} as raw data are allowed"
        )
    values = np.frombuffer(raw or b"", _TYPES[kind])
    return name, values.reshape(shape)


def _numbers(value: Value) -> list[int]:
    """A repeated number: one of them, or all packed into one field."""
    if isinstance(value, int):
        return [value]
    numbers, at = [], 0
    while at < len(value):
        number, at = varint(value, at)
        numbers.append(number)
    return numbers


def _text(value: Value) -> str:
    return bytes(nested(value)).decode("utf-8", "replace")
