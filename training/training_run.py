"""A training run made ready: streams pooled and labelled, what it is written down before it starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lob.errors import InputError
from models.configurations import MambaLOBConfig
from training.dataset import Dataset
from training.held_out import stream_record
from training.loop import TrainingConfig
from training.pool import LabelledStream, pool_streams
from training.run_directory import RUN_FILE, RunRecord, read_run, seed_directory, write_json

WINDOW_LENGTH = 100


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """What every seed of a run trains with."""

    directory: Path
    streams: list[LabelledStream]
    validation: list[LabelledStream]
    model_config: MambaLOBConfig
    config: TrainingConfig
    resume: bool

    def seed_directory(self, seed: int) -> Path:
        """Where one seed writes to."""
        return seed_directory(self.directory, seed)


def prepare_run(
    datasets: Sequence[Dataset],
    directory: Path,
    model_config: MambaLOBConfig,
    config: TrainingConfig,
    *,
    validate_on: Sequence[str] = (),
    resume: bool = False,
) -> TrainingRun:
    """Pool the data sets and write `run.json`, or with `resume` hold it against the one that is there.

    `validate_on` names the streams whose validation parts stop training and fit the temperatures, by default
    all that have one. Raises InputError where there is none, or where `directory` holds another run.
    """
    streams = pool_streams(datasets, horizons=model_config.horizons, references=validate_on)
    least = config.warmup_rows + max(model_config.horizons)
    long_enough = [stream for stream in streams if len(stream.split.validation) > least]
    validation = [stream for stream in streams if stream.name in validate_on] or long_enough
    for stream in validation:
        if len(stream.split.validation) <= least:
            raise InputError(
                f"validate_on: {stream.name} has {len(stream.split.validation)} rows to validate on, "
                f"more than {least} are needed"
            )
    if not validation:
        raise InputError("data: no stream is long enough to validate on")
    record = RunRecord(
        name=directory.resolve().name,
        schema=datasets[0].manifest.schema,
        sampling=datasets[0].manifest.sampling,
        context="stream",
        window_length=WINDOW_LENGTH,
        warmup_rows=config.warmup_rows,
        horizons=model_config.horizons,
        model=model_config.as_dict(),
        training=config.as_dict(),
        streams=tuple(stream_record(stream) for stream in streams),
        validation_streams=tuple(stream.name for stream in validation),
    )
    claim_directory(directory, record, resume=resume)
    return TrainingRun(
        directory=directory,
        streams=streams,
        validation=validation,
        model_config=model_config,
        config=config,
        resume=resume,
    )


def claim_directory(directory: Path, record: RunRecord, *, resume: bool) -> None:
    """Write `run.json`; one already there is gone on with if `resume` is set and it is the same."""
    path = directory / RUN_FILE
    if not path.exists():
        if directory.exists() and any(directory.iterdir()):
            raise InputError(f"{directory}: exists and is no training run; a new folder is allowed")
        write_json(path, record)
        return
    if not resume:
        raise InputError(f"{directory}: holds a run already; --resume goes on with it, or name a new folder")
    came, there = (msgspec.json.decode(msgspec.json.encode(each)) for each in (record, read_run(directory)))
    different = [key for key in there if there[key] != came[key]]
    if different:
        raise InputError(
            f"{directory}: holds a run with other {', '.join(different)}; --resume needs the same data "
            "sets and options, or name a new folder"
        )
