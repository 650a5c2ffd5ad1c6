"""Choosing and making an engine by name."""

from functools import partial

from numba import config

from inference.artifact import Artifact
from inference.engines.engine import Engine
from inference.engines.fused import FusedEngine
from inference.engines.ort_step import OrtStepEngine
from inference.engines.ort_window import OrtWindowEngine
from inference.fused.loaded_model import fused_weights
from inference.manifest import GraphKind
from lob.errors import ArtifactError, InputError
from lob.window import RingWindow

ENGINE_NAMES = ("auto", "fused", "ort-step", "ort-window")
"""What `create_engine` takes."""

_GRAPH: dict[str, GraphKind] = {"fused": "step", "ort-step": "step", "ort-window": "window"}


def choose_engine(name: str, artifact: Artifact) -> str:
    """The engine that `name` stands for with this artifact.

    `auto` serves the context the artifact was trained in: a window with `ort-window`, a stream with `fused`
    where graph and processor suit it, else with `ort-step`. Raises InputError for an unknown name,
    ArtifactError where the artifact lacks the engine's graph or the engine cannot run it.
    """
    if name == "auto":
        if artifact.manifest.context == "window":
            return "ort-window"
        return "ort-step" if fused_refusal(artifact) else "fused"
    graph = _GRAPH.get(name)
    if graph is None:
        raise InputError(f"engine: {name!r} came; allowed: {', '.join(ENGINE_NAMES)}")
    if graph not in artifact.manifest.graphs:
        allowed = [engine for engine, kind in _GRAPH.items() if kind in artifact.manifest.graphs]
        raise ArtifactError(
            f"engine: {name!r} came, model {artifact.name} has no {graph} graph; "
            f"allowed: {', '.join(allowed)}"
        )
    if name == "fused":
        fused_weights(artifact)
    return name


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

    `precision` is that of the weights in `fused`; the other engines run what their graph holds. Where `auto`
    cannot have `fused`, the description of `ort-step` says why.
    """
    chosen = choose_engine(name, artifact)
    if chosen != "fused" and name != "auto" and precision != "float32":
        raise InputError(f"precision: {precision!r} came; engine {name} runs its graph as it is: float32")
    if chosen == "ort-window":
        return OrtWindowEngine(artifact, ring)
    if chosen == "ort-step":
        return OrtStepEngine(artifact, fused_refused=fused_refusal(artifact) if name == "auto" else "")
    make = partial(FusedEngine, artifact, precision=precision)
    if name != "auto":
        return make()
    try:
        return make()
    except ArtifactError as error:
        return OrtStepEngine(artifact, fused_refused=str(error))
