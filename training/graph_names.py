"""Which values of an ONNX graph are read, those that only the body of a `Scan` reads with them."""

import onnx


def read_names(graph: onnx.GraphProto) -> set[str]:
    """What the nodes of `graph` read; a body may read by name what stands in the graph around it."""
    read = {name for node in graph.node for name in node.input}
    bodies = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    return read.union(*map(read_names, bodies))
