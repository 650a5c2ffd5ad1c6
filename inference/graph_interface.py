"""What a graph must look like from outside: its inputs, outputs and metadata, all derived from the manifest.

Step graph: inputs `row` (1, F) and `<state>_in`, outputs `logits` (1, H, C) and `<state>_out`.
Window graph: input `window` (1, L, F), output `logits` (1, H, C), the prediction at the last row.
All tensors are float32; a dimension the graph leaves open fits any size.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from inference.manifest import GraphKind, Manifest
from lob.errors import ArtifactError

ROW, WINDOW, LOGITS = "row", "window", "logits"
ELEMENT_TYPE = "tensor(float)"


class NodeArgument(Protocol):
    """An input or output as onnxruntime describes it (`onnxruntime.NodeArg`)."""

    name: str
    type: str
    shape: Sequence[int | str | None]


def graph_inputs(manifest: Manifest, kind: GraphKind, features: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the inputs a graph must have, in the exporter's order."""
    if kind == "window":
        return {WINDOW: (1, manifest.window_length, features)}
    return {ROW: (1, features), **{f"{tensor.name}_in": tensor.shape for tensor in manifest.state}}


def graph_outputs(manifest: Manifest, kind: GraphKind) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the outputs a graph must have, in the exporter's order."""
    logits: dict[str, tuple[int, ...]] = {LOGITS: (1, len(manifest.horizons), len(manifest.classes))}
    if kind == "window":
        return logits
    return {**logits, **{f"{tensor.name}_out": tensor.shape for tensor in manifest.state}}


def graph_metadata(manifest: Manifest) -> dict[str, str]:
    """The metadata_props that both graphs must carry: a graph beside another model's manifest is refused."""
    return {
        "mambalob.model": manifest.name,
        "mambalob.version": manifest.version,
        "mambalob.schema": manifest.schema.name,
        "mambalob.schema_hash": manifest.schema.hash,
        "mambalob.sampling": manifest.sampling,
        "mambalob.horizons": ",".join(map(str, manifest.horizons)),
        "mambalob.classes": ",".join(manifest.classes),
    }


def check_arguments(
    source: str, role: str, arguments: Sequence[NodeArgument], expected: Mapping[str, tuple[int, ...]]
) -> None:
    """Hold a graph's inputs or outputs (`role`) against `expected`; ArtifactError on the first misfit."""
    names = {argument.name for argument in arguments}
    if names != set(expected):
        raise ArtifactError(f"{source}: {role}s: {sorted(names)} came, {sorted(expected)} are allowed")
    for argument in arguments:
        if argument.type != ELEMENT_TYPE:
            raise ArtifactError(
                f"{source}: {role} {argument.name}: type {argument.type} came, {ELEMENT_TYPE} is allowed"
            )
        shape = expected[argument.name]
        fits = len(argument.shape) == len(shape) and all(
            not isinstance(came, int) or came == wanted
            for came, wanted in zip(argument.shape, shape, strict=True)
        )
        if not fits:
            raise ArtifactError(
                f"{source}: {role} {argument.name}: shape {list(argument.shape)} came, "
                f"{list(shape)} is allowed"
            )


def check_metadata(source: str, metadata: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """Hold a graph's metadata against `expected`; raises ArtifactError naming the first misfit."""
    for key, wanted in expected.items():
        came = metadata.get(key)
        if came != wanted:
            raise ArtifactError(f"{source}: metadata {key}: {came!r} came, {wanted!r} is allowed")
