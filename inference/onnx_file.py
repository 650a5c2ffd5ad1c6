"""A look into an ONNX file without the onnx package, which the serving install leaves out.

Two questions are answered from the protobuf wire format (onnx.proto3 gives the field numbers): how many nodes
the graph has, since they are what a call costs, and whether a tensor's values lie in another file, which the
manifest's checksum would not cover.
"""

from dataclasses import dataclass

from inference.protobuf_wire import fields, nested
from lob.errors import ArtifactError

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
        for number, value in fields(memoryview(model)):
            if number == _MODEL_GRAPH:
                nodes += _graph(nested(value), external)
            elif number == _MODEL_FUNCTIONS:
                nodes += sum(
                    _node(nested(part), external)
                    for inner, part in fields(nested(value))
                    if inner == _FUNCTION_NODE
                )
    except (ValueError, IndexError, RecursionError) as error:
        raise ArtifactError(f"{source}: not an ONNX file: {error}") from error
    if nodes == 0:
        raise ArtifactError(f"{source}: not an ONNX file: no graph node in it")
    return GraphSummary(nodes=nodes, external_tensors=tuple(external))


def _graph(graph: memoryview, external: list[str]) -> int:
    nodes = 0
    for number, value in fields(graph):
        if number == _GRAPH_NODE:
            nodes += _node(nested(value), external)
        elif number == _GRAPH_INITIALIZER:
            _tensor(nested(value), external)
    return nodes


def _node(node: memoryview, external: list[str]) -> int:
    nodes = 1
    for number, attribute in fields(node):
        if number != _NODE_ATTRIBUTE:
            continue
        for inner, value in fields(nested(attribute)):
            if inner in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                _tensor(nested(value), external)
            elif inner in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                nodes += _graph(nested(value), external)
    return nodes


def _tensor(tensor: memoryview, external: list[str]) -> None:
    name, is_external = "", False
    for number, value in fields(tensor):
        if number == _TENSOR_NAME:
            name = bytes(nested(value)).decode("utf-8", "replace")
        elif number == _TENSOR_EXTERNAL_DATA or (number == _TENSOR_DATA_LOCATION and value == 1):
            is_external = True
    if is_external:
        external.append(name)
