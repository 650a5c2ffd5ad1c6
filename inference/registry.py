"""Finding artifacts by name, among those that ship and those of a directory of one's own, or by path.

A directory of models holds artifacts as `<name>/`, the only version of that name, or as `<name>/<version>/`
with a file that says which version the bare name stands for (`inference.model_store` writes these).
`name@version` asks for one version.
"""

import os
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import msgspec

from inference.artifact import MANIFEST_FILE, Artifact, load_artifact
from inference.manifest import Name, Version
from lob.errors import ArtifactError

MODELS_VARIABLE = "MAMBALOB_MODELS"
ACTIVE_FILE = "active.json"
MAXIMUM_ACTIVE_BYTES = 4_096
VERSION_MARK = "@"


class ActiveVersion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which version a name stands for, and which one it stood for before, where there was one."""

    version: Version
    previous: Version | None = None


def shipped_models() -> Path:
    """The directory of the artifacts that ship."""
    return Path(str(files("models"))) / "zoo"


def own_models(models_dir: Path | None = None) -> Path | None:
    """The directory of one's own models: `models_dir`, else MAMBALOB_MODELS, else none; it need not exist."""
    if models_dir is None and (variable := os.environ.get(MODELS_VARIABLE)):
        return Path(variable)
    return models_dir


def model_folders(models_dir: Path | None = None) -> list[Path]:
    """Where names are looked up, the first find counts: `models_dir`, else MAMBALOB_MODELS; then what ships.

    Raises ArtifactError where the directory that was asked for is none.
    """
    own = own_models(models_dir)
    if own is None:
        return [shipped_models()]
    if not own.is_dir():
        came_from = MODELS_VARIABLE if models_dir is None else "--models-dir"
        raise ArtifactError(f"{came_from}: {str(own)!r} came, a directory that holds artifacts is allowed")
    return [own, shipped_models()]


def known_models(models_dir: Path | None = None) -> dict[str, Path]:
    """What can be asked for by name, and its directory, sorted: each artifact once.

    A version that its bare name does not stand for is named `name@version`.
    """
    found: dict[str, Path] = {}
    for folder in model_folders(models_dir):
        for name, directory in _models_of(folder):
            found.setdefault(name, directory)
    return dict(sorted(found.items()))


def versions_of(folder: Path, name: str) -> dict[str, Path]:
    """The versions of `name` in a directory of models, and where each is; none where `<name>/` is one itself.

    What is being written, or was left half written, is not among them.
    """
    directory = folder / name
    if (directory / MANIFEST_FILE).is_file() or not directory.is_dir():
        return {}
    found = {
        manifest.parent.name: manifest.parent
        for manifest in directory.glob(f"*/{MANIFEST_FILE}")
        if is_version(manifest.parent.name)
    }
    return dict(sorted(found.items()))


def active_version(folder: Path, name: str) -> ActiveVersion | None:
    """Which version `name` stands for in a directory of models; None where that is not written down.

    Raises ArtifactError where the file that says so cannot be read.
    """
    path = folder / name / ACTIVE_FILE
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(MAXIMUM_ACTIVE_BYTES), type=ActiveVersion)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{path}: {error}; `mambalob models activate` writes it anew") from error


def is_name(text: str) -> bool:
    """Whether `text` can be a model's name."""
    return _conforms(text, Name)


def is_version(text: str) -> bool:
    """Whether `text` can be a model's version."""
    return _conforms(text, Version)


def split_name(model: str) -> tuple[str, str | None]:
    """Name and version of `name@version`, None for the version of a bare name.

    Raises ArtifactError where they can be none.
    """
    name, mark, version = model.partition(VERSION_MARK)
    if not is_name(name) or (mark and not is_version(version)):
        raise ArtifactError(
            f"model: {model[:100]!r} came; allowed: NAME or NAME{VERSION_MARK}VERSION, names of a-z, 0-9, "
            "'.', '_' and '-'"
        )
    return name, version if mark else None


def load_model(model: str, models_dir: Path | None = None) -> Artifact:
    """The artifact called `model` (`name` or `name@version`), or that in the directory `model`.

    It is taken as a directory where it holds a path separator. Raises ArtifactError where there is none,
    naming those there are, and where it does not verify.
    """
    if os.sep in model or (os.altsep and os.altsep in model) or model in {".", ".."}:
        return load_artifact(Path(model))
    hint = f"; to take the directory, write ./{model}" if (Path(model) / MANIFEST_FILE).is_file() else ""
    return _load_named(model, models_dir, f"; or a path to an artifact's directory{hint}")


def load_named(model: str, models_dir: Path | None = None) -> Artifact:
    """As `load_model`, and never a path."""
    return _load_named(model, models_dir, "")


def _load_named(model: str, models_dir: Path | None, besides: str) -> Artifact:
    """The artifact of that name; where there is none, the error ends with `besides`, what else is taken."""
    name, version = split_name(model)
    for folder in model_folders(models_dir):
        directory = _directory_of(folder, name, version)
        if directory is None:
            continue
        artifact = load_artifact(directory)
        manifest = directory / MANIFEST_FILE
        _require(manifest, "name", artifact.name, name)
        if version is not None or directory.parent != folder:
            _require(manifest, "version", artifact.manifest.version, version or directory.name)
        return artifact
    folders = " and ".join(str(folder) for folder in model_folders(models_dir))
    known = ", ".join(known_models(models_dir)) or "none"
    raise ArtifactError(f"model: {model!r} came, known in {folders}: {known}{besides}")


def _models_of(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every artifact in a directory of models, by what it is asked for as."""
    for directory in folder.iterdir():
        name = directory.name
        if (directory / MANIFEST_FILE).is_file():
            if not name.startswith("."):  # an artifact that is being written
                yield name, directory
        elif is_name(name):
            versions = versions_of(folder, name)
            active = _readable_active(folder, name)
            for version, found in versions.items():
                yield (name if version == active else f"{name}{VERSION_MARK}{version}"), found


def _readable_active(folder: Path, name: str) -> str | None:
    try:
        active = active_version(folder, name)
    except ArtifactError:  # the bare name is refused where it is asked for; its versions are there anyhow
        return None
    return None if active is None else active.version


def _directory_of(folder: Path, name: str, version: str | None) -> Path | None:
    """Where `folder` holds what is asked for; None where it does not.

    Raises ArtifactError for a bare name that stands for no version, or for one that is not there.
    """
    directory = folder / name
    if (directory / MANIFEST_FILE).is_file():
        artifact_version = None if version is None else load_artifact(directory).manifest.version
        return directory if artifact_version == version else None
    versions = versions_of(folder, name)
    if not versions:
        return None
    if version is not None:
        return versions.get(version)
    active = active_version(folder, name)
    if active is None or active.version not in versions:
        stands = "no version" if active is None else f"version {active.version}, which is not there"
        raise ArtifactError(
            f"model: {name!r} came, which stands for {stands}, in {directory}; "
            f"allowed: {', '.join(f'{name}{VERSION_MARK}{one}' for one in versions)}, "
            "or choose one with `mambalob models activate`"
        )
    return versions[active.version]


def _require(manifest: Path, field: str, came: str, allowed: str) -> None:
    if came != allowed:
        raise ArtifactError(
            f"{manifest}: {field}: {came!r} came, the directory's name {allowed!r} is allowed"
        )


def _conforms(text: str, kind: object) -> bool:
    try:
        msgspec.convert(text, kind)
    except msgspec.ValidationError:
        return False
    return True
