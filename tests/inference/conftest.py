"""Fixtures of the inference tests: real artifacts, exported from a small `MambaLOB` with random weights."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from inference.artifact import Artifact, load_artifact, write_artifact
from inference.graph_interface import graph_metadata
from inference.manifest import GraphKind, Manifest
from inference.precision import GraphPrecision
from models.mamba_lob import MambaLOB
from tests.tiny_model import WINDOW_LENGTH, tiny_manifest, tiny_model
from tests.versions import as_version
from training.graph import graph_bytes
from training.reduced_graph import reduced_graph


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """A model in PyTorch, its manifest without graphs, and its two graphs as bytes."""

    model: MambaLOB
    manifest: Manifest
    graphs: dict[GraphKind, bytes]


@pytest.fixture(scope="session")
def exported() -> ExportedModel:
    """One SSD layer of width 16 with random weights in every path, as `training.graph` exports it."""
    model = tiny_model("ssd", layers=1, seed=7)
    manifest = tiny_manifest(model, "tiny")
    graphs = graph_bytes(model, WINDOW_LENGTH, graph_metadata(manifest))
    return ExportedModel(model=model, manifest=manifest, graphs=graphs)


@pytest.fixture(scope="session")
def models_dir(exported: ExportedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of two artifacts, not to be changed: `tiny` serves the stream, `tiny-window` the window."""
    folder = tmp_path_factory.mktemp("models")
    write_artifact(folder / "tiny", exported.manifest, exported.graphs, card="# tiny\n")
    window = msgspec.structs.replace(exported.manifest, name="tiny-window", context="window")
    graphs = graph_bytes(exported.model, WINDOW_LENGTH, graph_metadata(window))
    write_artifact(folder / "tiny-window", window, graphs, card="# tiny-window\n")
    return folder


@pytest.fixture(scope="session")
def artifact(models_dir: Path) -> Artifact:
    """The artifact `tiny`, which serves the stream; not to be changed."""
    return load_artifact(models_dir / "tiny")


@pytest.fixture(scope="session")
def window_artifact(models_dir: Path) -> Artifact:
    """The artifact `tiny-window`, which serves the window; not to be changed."""
    return load_artifact(models_dir / "tiny-window")


@pytest.fixture(scope="session")
def reduced_artifact(exported: ExportedModel, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """`tiny` with both graphs in every shorter format as well; not to be changed."""
    formats: tuple[GraphPrecision, ...] = ("float16", "int8")
    reduced = {
        (kind, precision): reduced_graph(graph, kind, precision, least_weights=64)
        for kind, graph in exported.graphs.items()
        for precision in formats
    }
    directory = tmp_path_factory.mktemp("reduced") / "tiny"
    return write_artifact(directory, exported.manifest, exported.graphs, card="# tiny\n", reduced=reduced)


@pytest.fixture(scope="session")
def s6_artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Two S6 layers of width 16 with random weights in every path; not to be changed."""
    model = tiny_model("s6", layers=2, seed=8)
    manifest = tiny_manifest(model, "tiny-s6")
    graph = graph_bytes(model, WINDOW_LENGTH, graph_metadata(manifest))["step"]
    graphs: dict[GraphKind, bytes] = {"step": graph}
    return write_artifact(tmp_path_factory.mktemp("models") / "tiny-s6", manifest, graphs, card="# tiny\n")


@pytest.fixture
def write_variant(exported: ExportedModel, tmp_path: Path) -> Callable[..., Path]:
    """A function that writes `tiny` into a directory of its own, to be spoilt, and answers the directory."""

    def write(**changes: object) -> Path:
        directory = tmp_path / "variant"
        manifest = msgspec.structs.replace(exported.manifest, **changes)
        write_artifact(directory, manifest, exported.graphs, card="# variant\n", replace=True)
        return directory

    return write


@pytest.fixture(scope="session")
def sources(exported: ExportedModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Versions 1, 2 and 3 of `tiny`, of different weights, each in a directory; not to be changed."""
    folder = tmp_path_factory.mktemp("sources")
    for version in "123":
        manifest, graphs = as_version(exported.manifest, exported.graphs, version=version)
        write_artifact(folder / version, manifest, graphs, card=f"# tiny {version}\n")
    return {version: folder / version for version in "123"}
