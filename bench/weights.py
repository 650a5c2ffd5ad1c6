"""Which model is timed: the one that is named, else one that ships, else one with random weights."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeAlias

from inference.artifact import MANIFEST_FILE, Artifact, load_artifact
from inference.registry import load_model, shipped_models
from inference.training_extra import INSTALL_TRAINING_EXTRA
from lob.errors import InputError

Size: TypeAlias = Literal["base", "small", "nano"]
Block: TypeAlias = Literal["ssd", "s6"]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A model to time, and what the results call it."""

    artifact: Artifact
    label: str


@contextmanager
def weights_to_time(
    name: str | None, *, size: Size, block: Block, seed: int, models_dir: Path | None = None
) -> Iterator[Weights]:
    """The model called `name` (or at that path); without one a model of `size` and `block`.

    That is the first by name of those that ship, else one with random weights from `seed`, exported to a
    folder that is gone afterwards: engines are made inside the context. Raises ArtifactError where the model
    does not load, InputError where random weights are needed and the training extra is not there.
    """
    if name is not None:
        artifact = load_model(name, models_dir)
        yield Weights(artifact=artifact, label=artifact.name)
        return
    shipped = shipped_artifact(size, block)
    if shipped is not None:
        yield Weights(artifact=shipped, label=shipped.name)
        return
    with TemporaryDirectory(prefix="mambalob-bench-") as folder:
        artifact = _random_artifact(Path(folder) / "model", size, block, seed)
        yield Weights(artifact=artifact, label=f"{size}-{block}, random weights")


def shipped_artifact(size: Size, block: Block) -> Artifact | None:
    """The first by name of the shipped models of that size and block; None where none ships.

    Raises ArtifactError where a shipped model does not load.
    """
    for manifest in sorted(shipped_models().glob(f"*/{MANIFEST_FILE}")):
        artifact = load_artifact(manifest.parent)
        architecture = artifact.manifest.architecture
        if (architecture.size, architecture.block) == (size, block):
            return artifact
    return None


def _random_artifact(directory: Path, size: Size, block: Block, seed: int) -> Artifact:
    try:
        from bench.random_model import export_random_model
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in {"bench", "training", "models"}:
            raise
        raise InputError(
            f"no model of {size}-{block} ships, and one with random weights needs {error.name}, which the "
            f"serving install leaves out; name a model with --model, or {INSTALL_TRAINING_EXTRA}"
        ) from error
    with redirect_stdout(sys.stderr):  # standard output is the report's alone
        return export_random_model(directory, size=size, block=block, seed=seed)
