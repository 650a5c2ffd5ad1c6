"""A finished training run as what an export needs: the model, its manifest, and rows it has not seen."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from inference.manifest import Manifest, TrainingData
from lob.errors import InputError
from models.checkpoint import load_model
from models.mamba_lob import MambaLOB
from training.builder import BuildConfig, build_dataset
from training.dataset import MANIFEST_FILE, Dataset, read_dataset
from training.model_manifest import model_manifest
from training.run_directory import (
    RunRecord,
    SeedRecord,
    best_seed,
    read_run,
    read_seed,
    seed_directory,
)

EVALUATION_FILE = "evaluation.json"


def load_trained(run: Path, *, seed: int | None, name: str | None, version: str) -> tuple[MambaLOB, Manifest]:
    """The model of a run's seed, by default the best on the validation part, and its manifest.

    `name` is the run's own where None. `evaluation.json` of the run becomes the manifest's metrics if it is
    there. Raises InputError naming what is missing or does not fit.
    """
    record = read_run(run)
    directory = best_seed(run) if seed is None else seed_directory(run, seed)
    result = read_seed(directory)
    model = load_model(directory)
    return model, trained_manifest(
        model, record, result, name=name or record.name, version=version, metrics=read_evaluation(run)
    )


def trained_manifest(
    model: MambaLOB,
    run: RunRecord,
    seed: SeedRecord,
    *,
    name: str,
    version: str,
    metrics: dict[str, Any],
) -> Manifest:
    """What an artifact says of `model`; `training.details` hold the run and the seed's result."""
    result = msgspec.to_builtins(seed)
    del result["epochs"]  # long, and of no use to who serves the model
    return model_manifest(
        model,
        name=name,
        version=version,
        schema=run.schema,
        sampling=run.sampling,
        context=run.context,
        window_length=run.window_length,
        warmup_rows=run.warmup_rows,
        temperatures=seed.temperatures,
        training=TrainingData(
            files=tuple(file for stream in run.streams for file in stream.files),
            rows=sum(past - first for first, past in (stream.training for stream in run.streams)),
            seconds=seed.seconds,
            seed=seed.seed,
            details={
                "run": msgspec.to_builtins(run),
                "seed": result,
            },
        ),
        metrics=metrics,
    )


def read_evaluation(run: Path) -> dict[str, Any]:
    """The JSON object in the run's `evaluation.json`; empty where there is no such file."""
    path = run / EVALUATION_FILE
    if not path.exists():
        return {}
    try:
        content = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a JSON object: {error}") from error
    return content


def held_out_rows(
    source: Path, run: RunRecord, *, symbol: str | None = None, tick_size: str | None = None
) -> NDArray[np.float32]:
    """Raw rows (T, F) that training has not seen, for the parity gate.

    `source` is a data set's folder (of a stream of the run: its test part, else all of it) or a capture, all
    of it. Raises InputError where it is neither or its rows are of another schema or sampling.
    """
    if (source / MANIFEST_FILE).is_file():
        dataset = read_dataset(source)
    elif source.is_file():
        config = BuildConfig(name=source.name, symbol=symbol, tick_size=tick_size, sampling=run.sampling)
        dataset = build_dataset([source], config)
    else:
        raise InputError(f"{source}: a data set's folder or a capture file is allowed")
    for field, came, allowed in (
        ("schema", dataset.manifest.schema, run.schema),
        ("sampling", dataset.manifest.sampling, run.sampling),
    ):
        if came != allowed:
            raise InputError(f"{source}: {field} {came} came, the model was trained on {allowed}")
    return _unseen(dataset, run)


def _unseen(dataset: Dataset, run: RunRecord) -> NDArray[np.float32]:
    stream = run.stream(dataset.name)
    if stream is None or stream.rows != len(dataset.rows):
        return dataset.rows
    first, past = stream.test
    return dataset.rows[first:past]
