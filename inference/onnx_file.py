"""A look into an ONNX file without the onnx package, which the serving install leaves out.

Two questions are answered from the protobuf wire format (onnx.proto3 gives the field numbers): how many nodes
the graph has, since they are what a call costs, and whether a tensor's values lie in another file, which the
manifest's checksum would not cover.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from lob.errors import ArtifactError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_MODEL_GRAPH = 7
_MODEL_FUNCTIONS = 25
_GRAPH_NODE = 1
_GRAPH_INITIALIZER = 5
_FUNCTION_NODE = 7
_NODE_ATTRIBUTE = 5
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_TENSOR_NAME, _TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 8, 13, 14


@dataclass(frozen=True, kw_only=True)
class GraphSummary:
    """Nodes of a graph with those of its subgraphs and functions, and the tensors kept in other files."""

    nodes: int
    external_tensors: tuple[str, ...]


def summarize_graph(model: bytes, source: str) -> GraphSummary:
    """What `model`, the bytes of an ONNX file, holds; raises ArtifactError where it is not protobuf."""
    external: list[str] = []
    nodes = 0
    try:
        for number, value in _fields(memoryview(model)):
            if number == _MODEL_GRAPH:
                nodes += _graph(_message(value), external)
            elif number == _MODEL_FUNCTIONS:
                nodes += sum(
                    _node(_message(part), external)
                    for inner, part in _fields(_message(value))
                    if inner == _FUNCTION_NODE
                )
    except (ValueError, IndexError, RecursionError) as error:
        raise ArtifactError(f"{source}: not an ONNX file: {error}") from error
    if nodes == 0:
        raise ArtifactError(f"{source}: not an ONNX file: no graph node in it")
    return GraphSummary(nodes=nodes, external_tensors=tuple(external))


def _graph(graph: memoryview, external: list[str]) -> int:
    nodes = 0
    for number, value in _fields(graph):
        if number == _GRAPH_NODE:
            nodes += _node(_message(value), external)
        elif number == _GRAPH_INITIALIZER:
            _tensor(_message(value), external)
    return nodes


def _node(node: memoryview, external: list[str]) -> int:
    nodes = 1
    for number, attribute in _fields(node):
        if number != _NODE_ATTRIBUTE:
            continue
        for inner, value in _fields(_message(attribute)):
            if inner in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                _tensor(_message(value), external)
            elif inner in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                nodes += _graph(_message(value), external)
    return nodes


def _tensor(tensor: memoryview, external: list[str]) -> None:
    name, is_external = "", False
    for number, value in _fields(tensor):
        if number == _TENSOR_NAME:
            name = bytes(_message(value)).decode("utf-8", "replace")
        elif number == _TENSOR_EXTERNAL_DATA or (number == _TENSOR_DATA_LOCATION and value == 1):
            is_external = True
    if is_external:
        external.append(name)


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number stands where a message belongs")  # noqa: TRY004 - the file's fault, not a type
    return value


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values (numbers, or the bytes of strings and messages) of one protobuf message."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind} at byte {at}, 0, 1, 2 and 5 are allowed")
        if at + size > end:
            raise ValueError(f"{size} bytes announced at byte {at}, {end - at} there")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError(f"a number longer than 64 bits at byte {at}")
