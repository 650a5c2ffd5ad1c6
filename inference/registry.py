"""Finding artifacts by name, among those that ship and those of a directory of one's own, or by path."""

import os
from importlib.resources import files
from pathlib import Path

from inference.artifact import MANIFEST_FILE, Artifact, load_artifact
from lob.errors import ArtifactError

MODELS_VARIABLE = "MAMBALOB_MODELS"


def shipped_models() -> Path:
    """The directory of the artifacts that ship."""
    return Path(str(files("models"))) / "zoo"


def model_folders(models_dir: Path | None = None) -> list[Path]:
    """Where names are looked up, the first find counts: `models_dir`, else MAMBALOB_MODELS; then what ships.

    Raises ArtifactError where the directory that was asked for is none.
    """
    own, came_from = models_dir, "--models-dir"
    if own is None and (variable := os.environ.get(MODELS_VARIABLE)):
        own, came_from = Path(variable), MODELS_VARIABLE
    if own is None:
        return [shipped_models()]
    if not own.is_dir():
        raise ArtifactError(f"{came_from}: {str(own)!r} came, a directory that holds artifacts is allowed")
    return [own, shipped_models()]


def known_models(models_dir: Path | None = None) -> dict[str, Path]:
    """Name and directory of every artifact that can be asked for by name, sorted by name."""
    found: dict[str, Path] = {}
    for folder in model_folders(models_dir):
        for manifest in folder.glob(f"*/{MANIFEST_FILE}"):
            directory = manifest.parent
            if not directory.name.startswith("."):  # an artifact that is being written
                found.setdefault(directory.name, directory)
    return dict(sorted(found.items()))


def load_model(model: str, models_dir: Path | None = None) -> Artifact:
    """The artifact called `model`, or the one in the directory `model` where that holds a path separator.

    Raises ArtifactError where there is none, naming those there are, and where it does not verify.
    """
    if os.sep in model or (os.altsep and os.altsep in model) or model in {".", ".."}:
        return load_artifact(Path(model))
    known = known_models(models_dir)
    directory = known.get(model)
    if directory is None:
        folders = " and ".join(str(folder) for folder in model_folders(models_dir))
        hint = f"; to take the directory, write ./{model}" if (Path(model) / MANIFEST_FILE).is_file() else ""
        raise ArtifactError(
            f"model: {model!r} came, known in {folders}: {', '.join(known) or 'none'}; "
            f"or a path to an artifact's directory{hint}"
        )
    artifact = load_artifact(directory)
    if artifact.name != model:
        raise ArtifactError(
            f"{directory / MANIFEST_FILE}: name: {artifact.name!r} came, "
            f"the directory's name {model!r} is allowed"
        )
    return artifact
