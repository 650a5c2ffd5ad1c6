"""A trained model to an artifact that serves: graphs, the parity gate, and only then files."""

import dataclasses
from pathlib import Path

import msgspec

from inference.artifact import Artifact, write_artifact
from inference.graph_interface import graph_metadata
from inference.manifest import GraphKind, Manifest, validate_manifest
from lob.errors import ArtifactError
from models.causal_model import CausalModel
from training.card import model_card
from training.graph import graph_bytes, node_counts
from training.parity import TOLERANCE, Floats, Parity, require_parity


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """What an export came to: the artifact as loaded back, how the gate was passed, nodes per operator."""

    artifact: Artifact
    parity: Parity
    nodes: dict[GraphKind, dict[str, int]]


def export_artifact(
    model: CausalModel,
    manifest: Manifest,
    directory: Path,
    rows: Floats,
    *,
    card: str | None = None,
    replace: bool = False,
    tolerance: float = TOLERANCE,
) -> Export:
    """Write `model` as the artifact `directory`, described by `manifest` (its `graphs` are filled in).

    `rows` (T, F) are real feature rows, raw, that the graphs are held against the model on. `card` is the
    text of CARD.md, by default what the manifest says. Raises ArtifactError where the graphs do not answer
    what the model answers, do not fit the manifest, or `directory` exists and `replace` is not set;
    InputError where the rows do not fit the model. Nothing is written then.
    """
    validate_manifest(manifest, str(directory))
    if directory.exists() and not replace:
        raise ArtifactError(f"{directory}: exists already; replacing it has to be asked for (--replace)")
    graphs = graph_bytes(model, manifest.window_length, graph_metadata(manifest))
    parity = require_parity(model, graphs, rows, window_length=manifest.window_length, tolerance=tolerance)
    details = {**manifest.training.details, "parity": dataclasses.asdict(parity)}
    training = msgspec.structs.replace(manifest.training, details=details)
    manifest = msgspec.structs.replace(manifest, training=training)
    artifact = write_artifact(
        directory,
        manifest,
        graphs,
        card=model_card(manifest, parity) if card is None else card,
        replace=replace,
    )
    return Export(
        artifact=artifact,
        parity=parity,
        nodes={kind: node_counts(graph) for kind, graph in graphs.items()},
    )
