"""A data set on disk: the feature rows of one stream as plain arrays beside a JSON manifest, nothing pickled.

`dataset.json` names schema, sampling, instrument and the captures the rows come from, with the checksum of
each array; reading verifies all of it. `training.builder` makes data sets, `training.pool` puts several
together.
"""

import hashlib
import shutil
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from inference.directory_swap import put_directory
from inference.manifest import SchemaReference, TrainingFile
from lob.errors import InputError
from lob.name_aside import name_aside
from lob.schema import Sampling, Schema, schema_named
from training.scratch import PIECE_ROWS

MANIFEST_FILE = "dataset.json"
FORMAT_VERSION = 1

ARRAYS: dict[str, tuple[str, int]] = {
    "rows": ("float32", 2),  # (T, F)
    "mid_half_ticks": ("int64", 1),  # (T,) best bid + best ask, in ticks: twice the mid, exact
    "exchange_ms": ("int64", 1),  # (T,)
    "receive_ns": ("int64", 1),  # (T,)
    "segments": ("int32", 1),  # (T,) 0, 1, ...: a new number wherever the book started anew
}


class DatasetManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the arrays beside it are: one stream's rows, `files` saying from which captures, in order."""

    format_version: int = FORMAT_VERSION
    name: str
    venue: str
    symbol: str
    tick_size: str
    schema: SchemaReference
    sampling: Sampling
    rows: int
    segments: int
    files: tuple[TrainingFile, ...]
    frames: dict[str, int]  # how many frames came to each status of the row path
    arrays: dict[str, str] = {}  # sha256 of each array's file; filled in by `write_dataset`


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The rows of one stream, oldest first, and what belongs to each; no label crosses a segment."""

    manifest: DatasetManifest
    rows: NDArray[np.float32]  # (T, F)
    mid_half_ticks: NDArray[np.int64]  # (T,)
    exchange_ms: NDArray[np.int64]  # (T,)
    receive_ns: NDArray[np.int64]  # (T,)
    segments: NDArray[np.int32]  # (T,)

    @property
    def name(self) -> str:
        """The stream's name, unique among those pooled."""
        return self.manifest.name

    @property
    def schema(self) -> Schema:
        """The schema of the rows."""
        return schema_named(self.manifest.schema.name)


def segment_bounds(segments: NDArray[np.int32], start: int, stop: int) -> list[tuple[int, int]]:
    """(first, past the last) row of each run of one segment within rows start..stop-1."""
    if stop <= start:
        return []
    edges = [start]
    for first in range(start + 1, stop, PIECE_ROWS):
        past = min(first + PIECE_ROWS, stop)
        edges += (first + np.flatnonzero(segments[first:past] != segments[first - 1 : past - 1])).tolist()
    return list(pairwise([*edges, stop]))


def schema_reference(schema: Schema) -> SchemaReference:
    """What a manifest says of `schema`."""
    return SchemaReference(name=schema.name, version=schema.version, hash=schema.hash)


def write_dataset(directory: Path, dataset: Dataset, *, replace: bool = False) -> DatasetManifest:
    """Write `dataset` to `directory`, which appears at once and whole, or not; answers the manifest written.

    Raises InputError where `directory` exists and `replace` is not set, or is no data set.
    """
    check_target(directory, replace=replace)
    directory.parent.mkdir(parents=True, exist_ok=True)
    beside = name_aside(directory)
    beside.mkdir()
    try:
        checksums = {}
        for name in ARRAYS:
            path = beside / f"{name}.npy"
            np.save(path, np.ascontiguousarray(getattr(dataset, name)), allow_pickle=False)
            checksums[name] = file_sha256(path)
        manifest = msgspec.structs.replace(dataset.manifest, arrays=checksums)
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
        (beside / MANIFEST_FILE).write_bytes(text + b"\n")
        put_directory(beside, directory)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return manifest


def check_target(directory: Path, *, replace: bool) -> None:
    """Raise InputError where `write_dataset` would refuse `directory`; asked before the work is done."""
    if directory.exists() and not (directory / MANIFEST_FILE).is_file():
        raise InputError(f"{directory}: exists and is no data set; a new name or a data set is allowed")
    if directory.exists() and not replace:
        raise InputError(f"{directory}: exists already; replacing it has to be asked for (--replace)")


def read_dataset(directory: Path) -> Dataset:
    """The data set in `directory`; raises InputError naming what is missing, altered or does not fit.

    Its arrays stay on the disk and are read as they are used: it may be larger than memory.
    """
    path = directory / MANIFEST_FILE
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=DatasetManifest)
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}; a folder that `mambalob build` wrote is needed"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a data set's manifest: {error}") from error
    if manifest.format_version != FORMAT_VERSION:
        raise InputError(
            f"{path}: format_version: {manifest.format_version} came, this program reads {FORMAT_VERSION}"
        )
    schema = schema_named(manifest.schema.name)
    if manifest.schema != schema_reference(schema):
        raise InputError(
            f"{path}: schema: version {manifest.schema.version}, hash {manifest.schema.hash} came, this "
            f"program's {schema.name} has version {schema.version}, hash {schema.hash}; build it again"
        )
    arrays: dict[str, Any] = {name: _read_array(directory, name, manifest) for name in ARRAYS}
    if arrays["rows"].shape[1] != schema.feature_count:
        raise InputError(
            f"{directory}: rows: {arrays['rows'].shape[1]} features came, "
            f"{schema.name} has {schema.feature_count}"
        )
    return Dataset(manifest=manifest, **arrays)


def _read_array(directory: Path, name: str, manifest: DatasetManifest) -> NDArray[np.generic]:
    """One array, its checksum, kind and length held against the manifest."""
    path = directory / f"{name}.npy"
    kind, dimensions = ARRAYS[name]
    try:
        came = file_sha256(path)
        array: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: not an array: {error}") from error
    if came != manifest.arrays.get(name):
        raise InputError(f"{path}: the file has sha256 {came}, the manifest {manifest.arrays.get(name)}")
    if array.dtype != kind or array.ndim != dimensions or len(array) != manifest.rows:
        raise InputError(
            f"{path}: {array.dtype} of shape {array.shape} came, {kind} with {dimensions} axes and "
            f"{manifest.rows} rows is allowed"
        )
    return array


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
