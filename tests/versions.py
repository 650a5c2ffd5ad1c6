"""Versions of a model made from one export: the same graphs under another version, of other weights."""

from collections.abc import Mapping

import msgspec
import numpy as np
import onnx

from inference.graph_interface import graph_metadata
from inference.manifest import GraphKind, Manifest


def as_version(
    manifest: Manifest, graphs: Mapping[GraphKind, bytes], **changes: object
) -> tuple[Manifest, dict[GraphKind, bytes]]:
    """The manifest with `changes` (of version, name, ...), and the graphs saying that they belong to it.

    The readout is scaled by the version's number, so that versions answer differently; whoever writes the
    artifact records the answers anew.
    """
    changed = msgspec.structs.replace(manifest, **(changes | {"recorded_answers": None}))
    relabelled: dict[GraphKind, bytes] = {}
    for kind, content in graphs.items():
        graph = onnx.load_from_string(content)
        del graph.metadata_props[:]
        onnx.helper.set_model_props(graph, graph_metadata(changed))
        for tensor in graph.graph.initializer:
            if tensor.name == "head.weight":
                weights = onnx.numpy_helper.to_array(tensor) * np.float32(int(changed.version))
                tensor.CopyFrom(onnx.numpy_helper.from_array(weights, tensor.name))
        relabelled[kind] = graph.SerializeToString()
    return changed, relabelled
