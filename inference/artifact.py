"""A trained artifact on disk: a directory of `manifest.json`, `CARD.md`, `step.onnx` and/or `window.onnx`.

Loading verifies the manifest, its schema against `lob.schema`, and the checksum of every graph; opening a
graph (`inference.engines.ort_session`) then holds its inputs, outputs and metadata against the same manifest.
Writing goes through a sibling directory that is loaded and opened before it takes the artifact's place.
"""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from inference.directory_swap import put_directory
from inference.durable_files import write_through
from inference.engines.ort_session import open_graph, read_graph
from inference.manifest import (
    GraphFile,
    GraphKind,
    Manifest,
    encode_manifest,
    parse_manifest,
    validate_manifest,
)
from inference.onnx_weights import read_weights
from inference.precision import GraphPrecision
from inference.recorded_answers import record_answers
from lob.errors import ArtifactError, InputError
from lob.name_aside import name_aside
from lob.schema import Schema, schema_named

MANIFEST_FILE = "manifest.json"
CARD_FILE = "CARD.md"
MAXIMUM_MANIFEST_BYTES = 1 << 20
MAXIMUM_GRAPH_BYTES = 1 << 28


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A verified artifact: its manifest, its schema, and where its graphs are.

    `sha256` is that of the manifest's file, which names the sha256 of each graph: where two artifacts have
    the same one, they are the same model.
    """

    manifest: Manifest
    schema: Schema
    directory: Path
    sha256: str

    @property
    def name(self) -> str:
        """The model's name."""
        return self.manifest.name

    def card(self) -> str:
        """The text of CARD.md; empty where there is none."""
        path = self.directory / CARD_FILE
        return path.read_text("utf-8") if path.is_file() else ""


def load_artifact(directory: Path) -> Artifact:
    """The artifact in `directory`, verified; raises ArtifactError naming what does not fit."""
    if not directory.is_dir():
        raise ArtifactError(
            f"{directory}: not a directory; an artifact is a directory with a {MANIFEST_FILE}"
        )
    path = directory / MANIFEST_FILE
    content = _read_bounded(path, MAXIMUM_MANIFEST_BYTES)
    manifest = parse_manifest(content, str(path))
    schema = manifest_schema(manifest, str(path))
    if not manifest.graphs:
        raise ArtifactError(f"{path}: graphs: none came, step, window or both are allowed")
    needed: GraphKind = "step" if manifest.context == "stream" else "window"
    if needed not in manifest.graphs:
        raise ArtifactError(
            f"{path}: graphs: {sorted(manifest.graphs)} came, "
            f"a model with context {manifest.context!r} needs {needed!r}"
        )
    recorded, features = manifest.recorded_answers, schema.feature_count
    if recorded is not None and not len(recorded.mean) == len(recorded.scale) == features:
        raise ArtifactError(
            f"{path}: recorded_answers: {len(recorded.mean)} means and {len(recorded.scale)} scales came, "
            f"{features} of each are allowed"
        )
    for kind, graph in manifest.all_graphs():
        _verify_graph(directory, kind, graph)
    return Artifact(
        manifest=manifest, schema=schema, directory=directory, sha256=hashlib.sha256(content).hexdigest()
    )


def write_artifact(
    directory: Path,
    manifest: Manifest,
    graphs: Mapping[GraphKind, bytes],
    *,
    card: str,
    reduced: Mapping[tuple[GraphKind, GraphPrecision], bytes] | None = None,
    replace: bool = False,
) -> Artifact:
    """Write an artifact to `directory` and answer it as loaded back; it appears at once and whole, or not.

    The manifest's `graphs` and `reduced_graphs` are filled in from `graphs`, those in float32, and `reduced`
    (ONNX bytes that carry `graph_metadata(manifest)`), and its `recorded_answers` where it has none. Raises
    ArtifactError where the whole would not load or a graph would not open, and where `directory` exists and
    `replace` is not set.
    """
    if directory.exists() and not replace:
        raise ArtifactError(f"{directory}: exists already; replacing it has to be asked for (--replace)")
    if directory.exists() and not (directory / MANIFEST_FILE).is_file():
        raise ArtifactError(f"{directory}: exists and is no artifact; only an artifact may be replaced")
    reduced = reduced or {}
    contents: dict[str, bytes] = {}

    def described(kind: GraphKind, precision: GraphPrecision, graph: bytes) -> GraphFile:
        file = f"{kind}.onnx" if precision == "float32" else f"{kind}.{precision}.onnx"
        contents[file] = graph
        return GraphFile(file=file, sha256=hashlib.sha256(graph).hexdigest(), precision=precision)

    try:
        filled = msgspec.structs.replace(
            manifest,
            graphs={kind: described(kind, "float32", graphs[kind]) for kind in sorted(graphs)},
            reduced_graphs={
                kind: tuple(
                    described(kind, precision, reduced[own, precision])
                    for own, precision in sorted(reduced)
                    if own == kind
                )
                for kind in sorted({kind for kind, _ in reduced})
            },
        )
    except ValueError as error:  # of the manifest itself, where its graphs contradict each other
        raise ArtifactError(f"{directory}: {error}") from error
    filled = validate_manifest(filled, str(directory / MANIFEST_FILE))
    directory.parent.mkdir(parents=True, exist_ok=True)
    beside = name_aside(directory)
    beside.mkdir()
    try:
        for file, graph in contents.items():
            write_through(beside / file, graph)
        write_through(beside / CARD_FILE, card.encode())
        write_through(beside / MANIFEST_FILE, encode_manifest(filled))
        written = load_artifact(beside)
        verify_artifact(written)
        if filled.recorded_answers is None:
            (beside / MANIFEST_FILE).unlink()
            write_through(beside / MANIFEST_FILE, encode_manifest(_with_answers(written)))
            verify_artifact(load_artifact(beside))  # the window's answers, and reduced ones, by the step's
        put_directory(beside, directory)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return load_artifact(directory)


def verify_artifact(artifact: Artifact) -> dict[tuple[GraphKind, GraphPrecision], int]:
    """Open every graph of `artifact` and answer its node count; raises ArtifactError on a misfit."""
    features, manifest = artifact.schema.feature_count, artifact.manifest
    return {
        (kind, graph.precision): open_graph(
            artifact.directory, kind, manifest, features, precision=graph.precision
        ).nodes
        for kind, graph in manifest.all_graphs()
    }


def _with_answers(artifact: Artifact) -> Manifest:
    """The manifest with what the graph of its context answers, where that is finite."""
    manifest, features = artifact.manifest, artifact.schema.feature_count
    kind: GraphKind = "step" if "step" in manifest.graphs else "window"
    opened = open_graph(artifact.directory, kind, manifest, features)
    weights = read_weights(*read_graph(artifact.directory, kind, manifest)).tensors
    mean = weights.get("normaliser.mean", np.zeros(features, np.float32))
    inverse = weights.get("normaliser.inverse_scale", np.ones(features, np.float32))
    scale = (1 / np.where(inverse == 0, 1, inverse)).astype(np.float32)
    recorded = record_answers(opened.session, kind, manifest, mean, scale)
    return msgspec.structs.replace(manifest, recorded_answers=recorded)


def manifest_schema(manifest: Manifest, source: str) -> Schema:
    """The program's schema of that name, if it is the one the model was trained on; else ArtifactError."""
    try:
        schema = schema_named(manifest.schema.name)
    except InputError as error:
        raise ArtifactError(f"{source}: schema.name: {error}") from error
    for field, came, allowed in (
        ("version", manifest.schema.version, schema.version),
        ("hash", manifest.schema.hash, schema.hash),
    ):
        if came != allowed:
            raise ArtifactError(
                f"{source}: schema.{field}: {came!r} came, this program's {schema.name} has {allowed!r}; "
                "the model was trained on other features"
            )
    return schema


def _verify_graph(directory: Path, kind: GraphKind, graph: GraphFile) -> None:
    """Raise ArtifactError unless a graph lies in `directory`, of allowed size, as the manifest has it."""
    path, place = directory / graph.file, _place(kind, graph)
    if not path.is_file():
        raise ArtifactError(f"{path}: {place}.file: no such file")
    if not path.resolve().is_relative_to(directory.resolve()):
        raise ArtifactError(f"{path}: {place}.file: leads outside the artifact, to {path.resolve()}")
    size = path.stat().st_size
    if size > MAXIMUM_GRAPH_BYTES:
        raise ArtifactError(
            f"{path}: {place}.file: {size} bytes came, at most {MAXIMUM_GRAPH_BYTES} are allowed"
        )
    try:
        with path.open("rb") as file:
            came = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactError(f"{path}: {place}.file: cannot be read: {error.strerror}") from error
    if came != graph.sha256:
        raise ArtifactError(
            f"{path}: {place}.sha256: the file has {came}, the manifest allows {graph.sha256}; "
            "the graph was altered or belongs to another manifest"
        )


def _place(kind: GraphKind, graph: GraphFile) -> str:
    """Where in the manifest a graph stands."""
    return f"graphs.{kind}" if graph.precision == "float32" else f"reduced_graphs.{kind} in {graph.precision}"


def _read_bounded(path: Path, maximum_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(maximum_bytes + 1)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > maximum_bytes:
        raise ArtifactError(f"{path}: more than {maximum_bytes} bytes came, at most that many are allowed")
    return content
