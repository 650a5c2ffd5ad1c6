"""Versions of models in a directory: installed, chosen, rolled back, removed, each in one step or not at all.

    DIR/<name>/<version>/    an artifact, as `inference.artifact` writes and verifies it
    DIR/<name>/active.json   which version the bare name stands for, and which one it stood for before

A version appears by the rename of a finished and verified directory, disappears by a rename, and is never
changed in between; the file that chooses one is replaced by a rename too. Whatever kills a command, readers
find what was there before or what is there after. What it left behind has a name that begins with a dot,
which no reader takes; the next command that changes the same name removes it.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from inference.artifact import CARD_FILE, MANIFEST_FILE, Artifact, load_artifact, verify_artifact
from inference.durable_files import sync_directory, write_through
from inference.folder_lock import folder_lock
from inference.registry import (
    ACTIVE_FILE,
    VERSION_MARK,
    ActiveVersion,
    active_version,
    is_name,
    versions_of,
)
from lob.errors import ArtifactError, InputError
from lob.name_aside import name_aside, original_name

LOCK_FILE = ".mambalob-models.lock"


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A version that is in the directory now, and whether the bare name stands for it."""

    artifact: Artifact
    active: bool


class ModelStore:
    """The models in `directory`. One process changes it at a time; reading needs no lock."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def install(self, source: Path, *, activate: bool = False) -> Installed:
        """Copy the artifact in `source` to its name and version; the first version of a name is activated.

        Both the source and the copy are loaded and their graphs opened before the copy gets its name. Raises
        ArtifactError where one does not verify, the version is there already, or `<name>/` holds an artifact
        itself.
        """
        artifact = load_artifact(source)
        verify_artifact(artifact)
        name, version = artifact.name, artifact.manifest.version
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._changing(name) as place:
            place.mkdir(exist_ok=True)
            target = place / version
            if target.exists():
                raise ArtifactError(
                    f"{target}: is there already; a version does not change, give the other one its own"
                )
            beside = name_aside(target)
            beside.mkdir()
            try:
                _copy(artifact, beside)
                verify_artifact(load_artifact(beside))
                beside.rename(target)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
            sync_directory(place)
            chosen = activate or active_version(self.directory, name) is None
            if chosen:
                self._choose(name, version)
        return Installed(artifact=load_artifact(target), active=chosen)

    def activate(self, name: str, version: str) -> ActiveVersion:
        """Let the bare name stand for `version`, which is verified first; answers what stands now.

        Raises ArtifactError where there is no such version or it does not verify.
        """
        with self._changing(name):
            self._verified(name, version)
            return self._choose(name, version)

    def rollback(self, name: str) -> ActiveVersion:
        """Let the bare name stand for the version it stood for before; a second time takes that back.

        Raises ArtifactError where there is none before, or it does not verify.
        """
        with self._changing(name) as place:
            self._versions(name)
            active = active_version(self.directory, name)
            if active is None or active.previous is None:
                raise ArtifactError(f"{place}: no version was active before; `activate` chooses one")
            self._verified(name, active.previous)
            return self._choose(name, active.previous)

    def remove(self, name: str, version: str) -> None:
        """Remove a version; a service that has loaded it goes on with what it holds.

        Raises ArtifactError where there is no such version, or the bare name stands for it.
        """
        with self._changing(name) as place:
            directory = self._version(name, version)
            active = active_version(self.directory, name)
            if active is not None and active.version == version:
                raise ArtifactError(
                    f"{directory}: {name} stands for this version; "
                    f"allowed: one that is not active (`activate` another first)"
                )
            if active is not None and active.previous == version:
                self._write_active(name, ActiveVersion(version=active.version))
            aside = name_aside(directory)
            directory.rename(aside)
            sync_directory(place)
            shutil.rmtree(aside)

    def _version(self, name: str, version: str) -> Path:
        versions = self._versions(name)
        if version not in versions:
            raise ArtifactError(
                f"{self.directory / name}: version {version!r} came, {', '.join(versions)} is there"
            )
        return versions[version]

    def _versions(self, name: str) -> dict[str, Path]:
        versions = versions_of(self.directory, name)
        if not versions:
            raise ArtifactError(f"model: {name!r} came; {self.directory} holds no versions of it")
        return versions

    def _verified(self, name: str, version: str) -> Artifact:
        artifact = load_artifact(self._version(name, version))
        came = f"{artifact.name}{VERSION_MARK}{artifact.manifest.version}"
        if came != f"{name}{VERSION_MARK}{version}":
            raise ArtifactError(
                f"{artifact.directory}: its manifest says {came}, its place {name}{VERSION_MARK}{version}"
            )
        verify_artifact(artifact)
        return artifact

    def _choose(self, name: str, version: str) -> ActiveVersion:
        """Write down that `name` stands for `version`, and what it stood for before."""
        try:
            before = active_version(self.directory, name)
        except ArtifactError:  # a file that cannot be read is replaced
            before = None
        if before is not None and before.version == version:
            return before
        previous = None if before is None else before.version
        if previous not in versions_of(self.directory, name):
            previous = None
        active = ActiveVersion(version=version, previous=previous)
        self._write_active(name, active)
        return active

    def _write_active(self, name: str, active: ActiveVersion) -> None:
        path = self.directory / name / ACTIVE_FILE
        beside = name_aside(path)
        write_through(beside, msgspec.json.encode(active) + b"\n")
        beside.replace(path)
        sync_directory(path.parent)

    @contextmanager
    def _changing(self, name: str) -> Iterator[Path]:
        """Hold the directory, and `<name>/` without what a killed command left there; answers `<name>/`.

        Raises ArtifactError where another process holds it, or `<name>/` is an artifact itself.
        """
        if not is_name(name):
            raise ArtifactError(f"model: {name[:100]!r} came; allowed: a name of a-z, 0-9, '.', '_' and '-'")
        if not self.directory.is_dir():
            raise ArtifactError(f"{self.directory}: no such directory; `mambalob models install` makes it")
        place = self.directory / name
        try:
            with folder_lock(self.directory, LOCK_FILE):
                if (place / MANIFEST_FILE).is_file():
                    raise ArtifactError(
                        f"{place}: is an artifact itself, the only version of that name; "
                        "allowed: a directory of versions (move it away, then install it)"
                    )
                _sweep(place)
                yield place
        except InputError as error:
            raise ArtifactError(str(error)) from error


def _copy(artifact: Artifact, directory: Path) -> None:
    """The files that the manifest names, and the card, written through to the disk."""
    files = [MANIFEST_FILE, *(graph.file for _, graph in artifact.manifest.all_graphs())]
    if (artifact.directory / CARD_FILE).is_file():
        files.append(CARD_FILE)
    for file in files:
        write_through(directory / file, (artifact.directory / file).read_bytes())
    sync_directory(directory)


def _sweep(place: Path) -> None:
    """Remove what a killed command left in `place`; whoever calls holds the lock, so nobody is writing."""
    for path in place.iterdir() if place.is_dir() else ():
        if original_name(path) is not None:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
