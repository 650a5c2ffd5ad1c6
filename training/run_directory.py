"""What training leaves behind: a run's folder with one folder a seed, JSON and safetensors only.

run.json                  what was trained on and how, the same for every seed
seed-0/model.json         the weights that were best on the validation part (`models.checkpoint`)
seed-0/model.safetensors
seed-0/result.json        how that seed came out; there once it is finished
seed-0/progress.json      where an unfinished seed stands (`training.progress`)
"""

import os
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from inference.manifest import Context, SchemaReference, TrainingFile
from lob.errors import InputError
from lob.schema import Sampling

RUN_FILE, RESULT_FILE = "run.json", "result.json"
FORMAT_VERSION = 1


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a run's JSON: immutable, its fields named, unknown ones refused."""


R = TypeVar("R", bound=Record)


class StreamRecord(Record, frozen=True, kw_only=True):
    """One stream as it was trained on: its captures, its parts and its labels' thresholds."""

    name: str
    venue: str
    symbol: str
    tick_size: str
    files: tuple[TrainingFile, ...]
    rows: int
    training: tuple[int, int]  # first row, past the last row
    validation: tuple[int, int]
    test: tuple[int, int]
    validation_from_ms: int
    test_from_ms: int
    reference: str
    thresholds: tuple[float, ...]  # (H,) relative change of the mid
    training_shares: tuple[tuple[float, ...], ...]  # (H, C)


class RunRecord(Record, frozen=True, kw_only=True):
    """What all seeds of a run share."""

    format_version: int = FORMAT_VERSION
    name: str
    schema: SchemaReference
    sampling: Sampling
    context: Context
    window_length: int
    warmup_rows: int
    horizons: tuple[int, ...]
    model: dict[str, Any]  # MambaLOBConfig.as_dict()
    training: dict[str, Any]  # TrainingConfig as a dict
    streams: tuple[StreamRecord, ...]
    validation_streams: tuple[str, ...]  # whose validation parts stop training and fit the temperatures

    def stream(self, name: str) -> StreamRecord | None:
        """The stream called `name`; None where the run had no such stream."""
        return next((stream for stream in self.streams if stream.name == name), None)


class EpochRecord(Record, frozen=True, kw_only=True):
    """One epoch: the mean training loss while it ran, and the validation log loss after it, per horizon."""

    epoch: int
    training_loss: float | None  # None for epoch 0, the fitted linear path alone
    validation_log_loss: tuple[float, ...]  # (H,)

    @property
    def mean_validation_log_loss(self) -> float:
        """The mean over horizons, which early stopping looks at."""
        return sum(self.validation_log_loss) / len(self.validation_log_loss)


class SeedRecord(Record, frozen=True, kw_only=True):
    """How one seed came out. Epoch 0 is the fitted linear path alone."""

    seed: int
    best_epoch: int
    epochs: tuple[EpochRecord, ...]
    validation_log_loss: tuple[float, ...]  # (H,) of the best epoch, before calibration
    temperatures: tuple[float, ...]  # (H,) fitted on the validation part
    seconds: float  # of training, validation included; summed over the pieces of an interrupted run
    threads: int
    parameters: int
    libraries: dict[str, str]

    @property
    def mean_validation_log_loss(self) -> float:
        """The mean over horizons at the best epoch: by it one seed of several is chosen."""
        return sum(self.validation_log_loss) / len(self.validation_log_loss)


def seed_directory(run: Path, seed: int) -> Path:
    """The folder of one seed."""
    return run / f"seed-{seed}"


def write_json(path: Path, record: msgspec.Struct) -> None:
    """Write `record` beside `path`, through to the disk, and rename it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    with beside.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def read_run(run: Path) -> RunRecord:
    """The `run.json` of a run's folder; raises InputError naming what does not fit."""
    record = _read(run / RUN_FILE, RunRecord)
    if record.format_version != FORMAT_VERSION:
        raise InputError(
            f"{run / RUN_FILE}: format_version: {record.format_version} came, "
            f"this program reads {FORMAT_VERSION}"
        )
    return record


def read_seed(directory: Path) -> SeedRecord:
    """The `result.json` of a seed's folder; raises InputError where it is missing or not one."""
    return _read(directory / RESULT_FILE, SeedRecord)


def finished_seeds(run: Path) -> list[Path]:
    """The folders of the run's finished seeds, by number; InputError where there is none."""
    found = sorted(run.glob(f"seed-*/{RESULT_FILE}"), key=lambda path: int(path.parent.name.split("-")[1]))
    if not found:
        raise InputError(f"{run}: no finished seed in it; a folder that `mambalob train` wrote is needed")
    return [path.parent for path in found]


def best_seed(run: Path) -> Path:
    """The folder of the finished seed with the least validation log loss."""
    return min(finished_seeds(run), key=lambda directory: read_seed(directory).mean_validation_log_loss)


def _read(path: Path, kind: type[R]) -> R:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}; a folder that `mambalob train` wrote is needed"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a {kind.__name__}: {error}") from error
