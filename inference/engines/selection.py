"""Choosing and making an engine by name."""

from inference.artifact import Artifact
from inference.engines.engine import Engine
from inference.engines.ort_step import OrtStepEngine
from inference.engines.ort_window import OrtWindowEngine
from inference.manifest import GraphKind
from lob.errors import ArtifactError, InputError
from lob.window import RingWindow

ENGINE_NAMES = ("auto", "ort-step", "ort-window")
"""What `create_engine` takes; `fused` is reserved."""

_GRAPH: dict[str, GraphKind] = {"ort-step": "step", "ort-window": "window"}


def choose_engine(name: str, artifact: Artifact) -> str:
    """The engine that `name` stands for with this artifact: `auto` serves the context it was trained in.

    Raises InputError for an unknown name, ArtifactError where the artifact lacks the engine's graph.
    """
    if name == "auto":
        return "ort-step" if artifact.manifest.context == "stream" else "ort-window"
    if name == "fused":
        raise InputError(f"engine: 'fused' is not part of this version; allowed: {', '.join(ENGINE_NAMES)}")
    graph = _GRAPH.get(name)
    if graph is None:
        raise InputError(f"engine: {name!r} came; allowed: {', '.join(ENGINE_NAMES)}")
    if graph not in artifact.manifest.graphs:
        allowed = [engine for engine, kind in _GRAPH.items() if kind in artifact.manifest.graphs]
        raise ArtifactError(
            f"engine: {name!r} came, model {artifact.name} has no {graph} graph; "
            f"allowed: {', '.join(allowed)}"
        )
    return name


def create_engine(name: str, artifact: Artifact, ring: RingWindow) -> Engine:
    """An engine for `artifact` on `ring`, before its first row; raises as `choose_engine` and the engines."""
    if choose_engine(name, artifact) == "ort-step":
        return OrtStepEngine(artifact)
    return OrtWindowEngine(artifact, ring)
