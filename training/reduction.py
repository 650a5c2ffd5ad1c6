"""Shorter number formats of an artifact: graphs for onnxruntime, and what every engine's formats cost.

Everything is made from the exported float32 graphs of an artifact that verifies. The artifact is written anew
with the formats asked for, in one step, and only where none of them costs more than its limits allow.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from inference.artifact import Artifact, write_artifact
from inference.engines.ort_session import read_graph
from inference.manifest import GraphKind
from inference.precision import GraphPrecision, Precision
from lob.errors import InputError
from training.accuracy_cost import AccuracyLimits, measure_costs, require_within
from training.card import card_with_costs
from training.pool import LabelledStream
from training.reduced_graph import NothingToReduceError, reduced_graph

GRAPH_FORMATS: tuple[GraphPrecision, ...] = ("float16", "int8")


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """The artifact as loaded back, costs in its manifest; `left_out` says why a graph was not made."""

    artifact: Artifact
    left_out: dict[str, str]


def reduce_artifact(
    artifact: Artifact,
    directory: Path,
    streams: Sequence[LabelledStream],
    precisions: Sequence[Precision],
    *,
    limits: AccuracyLimits | None = None,
    replace: bool = False,
) -> Reduction:
    """Write `artifact` to `directory` with `precisions`, in place of those it had, measured on `streams`.

    onnxruntime's engines get a graph for each format that pays in it; the fused engine needs none. Raises
    ArtifactError naming measure, value and limit where a format costs more than `limits`, and as
    `write_artifact`; InputError where nothing can be measured. Nothing is written then.
    """
    if not precisions or "float32" in precisions or len(set(precisions)) != len(precisions):
        raise InputError(
            f"precision: {', '.join(precisions) or 'none'} came; formats other than float32 are allowed, "
            "each once"
        )
    graphs = {
        kind: read_graph(artifact.directory, kind, artifact.manifest)[0] for kind in artifact.manifest.graphs
    }
    reduced, left_out = reduced_graphs(graphs, precisions)
    with tempfile.TemporaryDirectory(prefix="mambalob-reduction-") as folder:
        candidate = write_artifact(
            Path(folder) / artifact.name, artifact.manifest, graphs, card="", reduced=reduced
        )
        costs = measure_costs(candidate, streams, precisions)
    require_within(costs, limits or AccuracyLimits())
    manifest = msgspec.structs.replace(artifact.manifest, accuracy_costs=costs)
    return Reduction(
        artifact=write_artifact(
            directory,
            manifest,
            graphs,
            card=card_with_costs(artifact.card(), costs),
            reduced=reduced,
            replace=replace,
        ),
        left_out=left_out,
    )


def reduced_graphs(
    graphs: dict[GraphKind, bytes], precisions: Sequence[Precision]
) -> tuple[dict[tuple[GraphKind, GraphPrecision], bytes], dict[str, str]]:
    """The graphs in those of `precisions` that onnxruntime runs, and why each that is not there is not."""
    reduced: dict[tuple[GraphKind, GraphPrecision], bytes] = {}
    left_out: dict[str, str] = {}
    for precision in GRAPH_FORMATS:
        if precision not in precisions:
            continue
        for kind, graph in graphs.items():
            try:
                reduced[kind, precision] = reduced_graph(graph, kind, precision)
            except NothingToReduceError as reason:
                left_out[f"{kind} {precision}"] = str(reason)
    return reduced, left_out
