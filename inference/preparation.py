"""A model made ready by one process for another: what takes long, or keeps the interpreter, is done there.

`prepare` does what a start does: the artifact is verified, its engine chosen, packed, held against
`ort-step` and rehearsed, which compiles its kernels onto the disk. What it hands over is a small record, and
the packed weights as they lie in memory, or where their pages were chosen these pages; `take` makes an engine
of them and checks nothing again. So both sides run the same program on the same machine.
"""

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

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
from lob.venues import Venue
from lob.window import RingWindow

Words = npt.NDArray[np.float32]


class PreparationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which model, by its name in a directory of models, and how a service runs it."""

    model: str
    models_dir: str | None
    engine: str
    precision: str
    venue: Venue
    depth: int | None


class Preparation(msgspec.Struct, frozen=True, kw_only=True, tag="prepared"):
    """A model that is ready: its artifact, what its engine says of itself, and the weights of a fused one.

    `manifest` lacks what serving does not read: the records of its training and of its answers, which are
    most of it.
    """

    directory: str
    sha256: str
    manifest: Manifest
    description: dict[str, str | int]
    sizes: ModelSizes | None
    """Those of a fused engine, whose packed weights come with this; None for others."""
    pages: tuple[int, ...] = ()
    """The pages of a file in which the weights lie, in their order; empty where they lie in no file."""

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

    @property
    def precision(self) -> str:
        """The number format that the engine answers in."""
        return str(self.description["precision"])

    @property
    def word_count(self) -> int:
        """Words of the packed weights; 0 where there are none."""
        return 0 if self.sizes is None else parameter_words(self.sizes, weight_format(self.precision))

    def room(self) -> Words:
        """Where packed weights that lie in no file are to be read into, (word_count,)."""
        return aligned_words(self.word_count)


def prepare(request: PreparationRequest) -> tuple[Preparation, PackedModel | None]:
    """A model made ready as by a start; of a fused engine also what was packed.

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
    packed = engine.packed() if isinstance(engine, FusedEngine) else None
    preparation = Preparation(
        directory=str(artifact.directory.absolute()),
        sha256=artifact.sha256,
        manifest=_without_records(artifact.manifest),
        description=dict(engine.describe()),
        sizes=None if packed is None else packed.sizes,
        pages=() if packed is None or packed.pages is None else packed.pages.order,
    )
    return preparation, packed


def take(preparation: Preparation, words: Words, ring: RingWindow) -> Engine:
    """The engine that was prepared, with the packed weights `words`, on `ring`, before its first row.

    `words`: (word_count,), of `Preparation.room` or of its pages mapped in their order. Raises
    ArtifactError where onnxruntime refuses the graph here.
    """
    artifact, description, precision = preparation.artifact, preparation.description, preparation.precision
    if preparation.sizes is not None:
        packed = PackedModel(
            sizes=preparation.sizes, precision=precision, words=words, description=description
        )
        return FusedEngine.of_packed(artifact, packed)
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
