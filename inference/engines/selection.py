"""Choosing and making an engine by name."""

from numba import config

from inference.artifact import Artifact
from inference.engines.engine import Engine
from inference.engines.fused import FusedEngine
from inference.engines.ort_step import OrtStepEngine
from inference.engines.ort_window import OrtWindowEngine
from inference.fused.loaded_model import fused_weights
from inference.fused.weight_format import PRECISIONS as FUSED_PRECISIONS
from inference.manifest import GraphKind
from inference.precision import require_precision
from lob.errors import ArtifactError, InputError
from lob.window import RingWindow

ENGINE_NAMES = ("auto", "fused", "ort-step", "ort-window")
"""What `create_engine` takes."""

_GRAPH: dict[str, GraphKind] = {"fused": "step", "ort-step": "step", "ort-window": "window"}


def choose_engine(name: str, artifact: Artifact, precision: str = "float32") -> str:
    """The engine that `name` stands for with this artifact in this number format.

    `auto` serves the context the artifact was trained in: a window with `ort-window`, a stream with `fused`
    where format, graph and processor suit it, else with `ort-step`. Raises InputError for an unknown name and
    for a format that the engine does not have for this artifact, ArtifactError where the artifact lacks the
    engine's graph or the engine cannot run it.
    """
    require_precision(precision)
    if name == "auto":
        return _choose(artifact, precision)
    graph = _GRAPH.get(name)
    if graph is None:
        raise InputError(f"engine: {name!r} came; allowed: {', '.join(ENGINE_NAMES)}")
    offered = offered_precisions(artifact)
    if name not in offered:
        raise ArtifactError(
            f"engine: {name!r} came, model {artifact.name} has no {graph} graph; "
            f"allowed: {', '.join(offered)}"
        )
    if precision not in offered[name]:
        raise _not_offered(artifact, precision, f"with engine {name}")
    if name == "fused":
        fused_weights(artifact)
    return name


def offered_precisions(artifact: Artifact) -> dict[str, tuple[str, ...]]:
    """The number formats of each engine for which the artifact has a graph, whether it suits or not."""
    manifest = artifact.manifest
    return {
        engine: FUSED_PRECISIONS
        if engine == "fused"
        else tuple(graph.precision for own, graph in manifest.all_graphs() if own == kind)
        for engine, kind in _GRAPH.items()
        if kind in manifest.graphs
    }


def _choose(artifact: Artifact, precision: str) -> str:
    """What `auto` stands for."""
    offered = offered_precisions(artifact)
    served = ("ort-window",) if artifact.manifest.context == "window" else ("fused", "ort-step")
    able = [engine for engine in served if precision in offered.get(engine, ())]
    refused = fused_refusal(artifact) if "fused" in able else ""
    if refused:
        able.remove("fused")
    if not able:
        raise _not_offered(artifact, precision, refused or f"for its context, {artifact.manifest.context}")
    return able[0]


def _not_offered(artifact: Artifact, precision: str, where: str) -> InputError:
    offered = offered_precisions(artifact).items()
    allowed = "; ".join(f"{engine} {', '.join(precisions)}" for engine, precisions in offered)
    return InputError(f"precision: {precision!r} came ({where}); model {artifact.name} allows: {allowed}")


def fused_refusal(artifact: Artifact) -> str:
    """Why `auto` would not take `fused` for this artifact before probing it; empty where it would."""
    if config.DISABLE_JIT:
        return "engine fused: NUMBA_DISABLE_JIT is set, its kernels would run as plain numpy"
    try:
        fused_weights(artifact)
    except ArtifactError as error:
        return str(error)
    return ""


def create_engine(name: str, artifact: Artifact, ring: RingWindow, *, precision: str = "float32") -> Engine:
    """An engine for `artifact` on `ring`, before its first row; raises as `choose_engine` and the engines.

    Where `auto` cannot have `fused`, and `ort-step` has the same `precision`, that serves and its description
    says why.
    """
    chosen = choose_engine(name, artifact, precision)
    if chosen == "ort-window":
        return OrtWindowEngine(artifact, ring, precision=precision)
    if chosen == "ort-step":
        refused = fused_refusal(artifact) if name == "auto" and precision in FUSED_PRECISIONS else ""
        return OrtStepEngine(artifact, precision=precision, fused_refused=refused)
    try:
        return FusedEngine(artifact, precision=precision)
    except ArtifactError as error:
        if name != "auto" or precision not in offered_precisions(artifact)["ort-step"]:
            raise
        return OrtStepEngine(artifact, precision=precision, fused_refused=str(error))
