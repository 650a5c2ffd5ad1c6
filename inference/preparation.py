"""A model made ready by one process for another: what takes long, or keeps the interpreter, is done there.

`prepare` does what a start does: the artifact is verified, its engine chosen, packed, held against
`ort-step` and rehearsed, which compiles its kernels onto the disk. What it hands over is small, but for the
packed weights, which lie in a file; `take` makes an engine of it and checks nothing again. So both sides run
the same program on the same machine, and nobody else writes to the folder of the file.
"""

import hashlib
from pathlib import Path

import msgspec

from inference.artifact import MANIFEST_FILE, Artifact, manifest_schema
from inference.engines.engine import Engine
from inference.engines.fused import FusedEngine
from inference.engines.ort_step import OrtStepEngine
from inference.engines.ort_window import OrtWindowEngine
from inference.fused.packed_model import PackedModel
from inference.fused.packing import aligned_words
from inference.fused.sizes import ModelSizes, parameter_words
from inference.fused.weight_format import weight_format
from inference.manifest import Manifest
from inference.pipeline import Pipeline
from inference.registry import load_named
from inference.rehearsal import REHEARSED_INSTRUMENT, warm_up
from lob.errors import ArtifactError
from lob.venues import Venue
from lob.window import RingWindow


class PreparationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which model, by its name in a directory of models, and how a service runs it."""

    model: str
    models_dir: str | None
    engine: str
    precision: str
    venue: Venue
    depth: int | None


class PackedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of packed weights: the words of an `inference.fused.packed_model.PackedModel`."""

    path: str
    sha256: str
    sizes: ModelSizes


class Preparation(msgspec.Struct, frozen=True, kw_only=True, tag="prepared"):
    """A model that is ready: its artifact, what its engine says of itself, and the weights of a fused one.

    `manifest` lacks what serving does not read: the records of its training and of its answers, which are
    most of it.
    """

    directory: str
    sha256: str
    manifest: Manifest
    description: dict[str, str | int]
    packed: PackedFile | None

    @property
    def artifact(self) -> Artifact:
        """The artifact as it was verified."""
        directory = Path(self.directory)
        return Artifact(
            manifest=self.manifest,
            schema=manifest_schema(self.manifest, str(directory / MANIFEST_FILE)),
            directory=directory,
            sha256=self.sha256,
        )


def prepare(request: PreparationRequest, packed_path: Path) -> Preparation:
    """Make a model ready as a start would, and write its packed weights, where it has some, to `packed_path`.

    Raises ArtifactError where it does not verify, run or answer, InputError for an engine or number format
    that is none or that it does not have.
    """
    models_dir = None if request.models_dir is None else Path(request.models_dir)
    artifact = load_named(request.model, models_dir)
    pipeline = Pipeline.create(
        artifact,
        REHEARSED_INSTRUMENT,
        engine=request.engine,
        precision=request.precision,
        venue=request.venue,
        depth=request.depth,
    )
    warm_up(pipeline)
    engine = pipeline.engine
    return Preparation(
        directory=str(artifact.directory.absolute()),
        sha256=artifact.sha256,
        manifest=_without_records(artifact.manifest),
        description=dict(engine.describe()),
        packed=_write_packed(engine.packed(), packed_path) if isinstance(engine, FusedEngine) else None,
    )


def take(preparation: Preparation, ring: RingWindow) -> Engine:
    """The engine that was prepared, on `ring`, before its first row.

    Raises ArtifactError where the packed weights are not those that were written, and where onnxruntime
    refuses the graph here.
    """
    packed, artifact = preparation.packed, preparation.artifact
    description = preparation.description
    if packed is not None:
        return FusedEngine.of_packed(artifact, _read_packed(packed, description))
    precision = str(description["precision"])
    if description["engine"] == OrtWindowEngine.name:
        return OrtWindowEngine(artifact, ring, precision=precision)
    refused = str(description.get("fused_refused", ""))
    return OrtStepEngine(artifact, precision=precision, fused_refused=refused)


def _without_records(manifest: Manifest) -> Manifest:
    replace = msgspec.structs.replace
    return replace(
        manifest,
        architecture=replace(manifest.architecture, details={}),
        training=replace(manifest.training, files=(), details={}),
        metrics={},
        accuracy_costs=(),
        recorded_answers=None,
        libraries={},
    )


def _write_packed(packed: PackedModel, path: Path) -> PackedFile:
    content = packed.words.tobytes()
    path.write_bytes(content)
    return PackedFile(path=str(path), sha256=hashlib.sha256(content).hexdigest(), sizes=packed.sizes)


def _read_packed(file: PackedFile, description: dict[str, str | int]) -> PackedModel:
    precision = str(description["precision"])
    words = aligned_words(parameter_words(file.sizes, weight_format(precision)))
    try:
        with Path(file.path).open("rb", buffering=0) as content:
            read = content.readinto(words)  # type: ignore[arg-type]  # an array is a buffer
    except OSError as error:
        raise ArtifactError(f"{file.path}: cannot be read: {error.strerror}") from error
    if read != words.nbytes or hashlib.sha256(words.data).hexdigest() != file.sha256:
        raise ArtifactError(f"{file.path}: {read} bytes came that are not the {words.nbytes} written there")
    return PackedModel(sizes=file.sizes, precision=precision, words=words, description=description)
