"""Captures to a data set, through the same row path that serves, several files at once."""

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from inference.capture_instrument import capture_instrument
from inference.directory_swap import put_directory
from inference.folder_lock import folder_lock
from inference.manifest import TrainingFile
from lob.captures import open_captures
from lob.captures.file_lock import is_locked
from lob.captures.layout import capture_files
from lob.errors import CaptureError, InputError
from lob.name_aside import name_aside, original_name
from lob.schema import LOB44, Schema, check_sampling
from training.capture_units import CaptureUnit, RowSettings, UnitRows, split_into_units, spool_unit
from training.dataset import (
    ARRAYS,
    MANIFEST_FILE,
    Dataset,
    DatasetManifest,
    check_target,
    read_dataset,
    schema_reference,
)
from training.dataset_assembly import check_order, files_of, frames_of, write_arrays

OnFile = Callable[[str, int], None]

LOCK_FILE = ".build.lock"
"""In the folder that a build works in, and held by it."""


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """How captures become rows; what is None is taken from the captures themselves."""

    name: str
    venue: str | None = None
    symbol: str | None = None
    tick_size: str | None = None
    sampling: str = "top_changed"
    schema: Schema = field(default=LOB44)

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable():
            raise InputError(f"name: {self.name!a} came, printable text is allowed; give it with --name")


def build_dataset(captures: Sequence[Path], config: BuildConfig, *, on_file: OnFile | None = None) -> Dataset:
    """What `build_dataset_folder` builds, read into memory."""
    with tempfile.TemporaryDirectory(prefix="mambalob-") as folder:
        build_dataset_folder(captures, Path(folder) / "dataset", config, on_file=on_file)
        dataset = read_dataset(Path(folder) / "dataset")
        arrays: dict[str, Any] = {name: np.array(getattr(dataset, name)) for name in ARRAYS}
        return replace(dataset, **arrays)


def build_dataset_folder(
    captures: Sequence[Path],
    directory: Path,
    config: BuildConfig,
    *,
    workers: int = 1,
    replace: bool = False,
    on_file: OnFile | None = None,
) -> DatasetManifest:
    """Write the rows of the captures, which continue each other, to `directory`, as one stream.

    A folder among `captures` stands for the captures of one stream below it, by name. Up to `workers`
    processes read captures that begin with a book side by side; what comes out does not depend on their
    number, and memory holds some thousand rows a process, however long the captures are. `on_file(name,
    rows)` is told of each capture when it is done, in order. Raises CaptureError for a truncated or corrupt
    capture, InputError where symbol or tick size cannot be told, no row came out, or `directory` is taken.
    """
    check_sampling(config.sampling)
    if workers < 1:
        raise InputError(f"workers: {workers} came, 1 or more is allowed")
    check_target(directory, replace=replace)
    files = one_stream_files(captures)
    together = open_captures(files)
    if config.venue not in {None, together.venue}:
        raise InputError(f"venue: {config.venue} came, the captures are of {together.venue}")
    instrument = capture_instrument(together, symbol=config.symbol, tick_size=config.tick_size).instrument
    units, depth = split_into_units(files, together.venue, instrument.symbol)
    settings = RowSettings(
        venue=together.venue,
        instrument=instrument,
        schema=config.schema,
        sampling=config.sampling,
        depth=depth,
    )
    with _folder_beside(directory) as beside:
        spool = beside / "spool"
        spool.mkdir()
        done: list[UnitRows] = []
        read: list[TrainingFile] = []
        for unit_rows in _spooled(units, settings, spool, workers):
            mine = files_of(unit_rows, done[-1] if done else None)
            done.append(unit_rows)
            read += mine
            check_order(read)
            for file in mine:
                if on_file is not None:
                    on_file(file.name, file.rows)
        frames = frames_of(done)
        checksums, rows, segments = write_arrays(done, spool, beside, config.schema.feature_count)
        if rows == 0:
            raise InputError(
                f"{', '.join(map(str, captures))}: no row of {instrument.symbol} came out of "
                f"{sum(frames.values())} frames ({counted(frames)})"
            )
        spool.rmdir()
        manifest = DatasetManifest(
            name=config.name,
            venue=together.venue,
            symbol=instrument.symbol,
            tick_size=instrument.tick_size,
            schema=schema_reference(config.schema),
            sampling=check_sampling(config.sampling),
            rows=rows,
            segments=segments,
            files=tuple(read),
            frames=frames,
            arrays=checksums,
        )
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
        (beside / MANIFEST_FILE).write_bytes(text + b"\n")
        (beside / LOCK_FILE).unlink()
        put_directory(beside, directory)
    return manifest


def one_stream_files(captures: Sequence[Path]) -> list[Path]:
    """The captures that `captures` name; raises InputError for a folder of several streams."""
    for path in captures:
        if path.is_dir():
            folders = sorted({file.parent for file in capture_files([path])})
            if len(folders) > 1:
                raise InputError(
                    f"{path}: captures of {len(folders)} folders came to light "
                    f"({', '.join(map(str, folders[:3]))}{', ...' if len(folders) > 3 else ''}); "
                    "one folder is one stream, build each by itself"
                )
    return capture_files(captures)


def _spooled(
    units: Sequence[CaptureUnit], settings: RowSettings, spool: Path, workers: int
) -> Iterator[UnitRows]:
    """What becomes of each unit, in order, in this process or in several."""
    workers = min(workers, len(units))
    if workers == 1:
        for unit in units:
            yield spool_unit(unit, settings, spool)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
        futures = [pool.submit(spool_unit, unit, settings, spool) for unit in units]
        try:
            for future in futures:
                yield future.result()
        except BrokenProcessPool as error:
            raise CaptureError(
                "a process that read captures was ended from outside, for want of memory perhaps; "
                "fewer workers need less"
            ) from error
        finally:
            for future in futures:
                future.cancel()


def _end_with_parent() -> None:
    """In a worker: end when the build is killed, which the pool's own queues would never tell."""
    parent = parent_process()
    assert parent is not None, "a worker is a child"

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="parent-watch", daemon=True).start()


@contextmanager
def _folder_beside(directory: Path) -> Iterator[Path]:
    """A new folder where `directory` is to be; gone after an error, with the parents made for it.

    What a killed build of the same data set left there goes first; a build that is at work is let be.
    Raises CaptureError where the disk refuses.
    """
    made = [parent for parent in directory.parents if not parent.exists()]
    beside = name_aside(directory)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        for left in _left_by_killed(directory):
            shutil.rmtree(left, ignore_errors=True)
        beside.mkdir()
    except OSError as error:
        raise CaptureError(f"{directory}: cannot be written ({error.strerror})") from error
    try:
        with folder_lock(beside, LOCK_FILE):
            yield beside
    except BaseException as error:
        shutil.rmtree(beside, ignore_errors=True)
        with suppress(OSError):
            for parent in made:
                parent.rmdir()
        if isinstance(error, OSError):
            raise CaptureError(f"{error.filename or directory}: {error.strerror or error}") from error
        raise
    shutil.rmtree(beside, ignore_errors=True)


def _left_by_killed(directory: Path) -> list[Path]:
    """The folders beside `directory` that builds of it left when they were killed.

    Each is either unfinished, with a lock that nobody holds, or the data set that was replaced by the one
    that is there.
    """
    left = []
    for path in directory.parent.iterdir():
        if original_name(path) != directory.name or not path.is_dir():
            continue
        if (path / LOCK_FILE).exists():
            unused = not is_locked(path / LOCK_FILE)
        else:
            unused = (path / MANIFEST_FILE).exists() and directory.exists()
        if unused:
            left.append(path)
    return left


def counted(counters: dict[str, int]) -> str:
    """`3 gap, 2 waiting`: the counters that are not 0."""
    return ", ".join(f"{count} {name}" for name, count in counters.items() if count) or "none"
