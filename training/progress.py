"""Where an unfinished seed stands, so that a killed run goes on to the same result, bit for bit.

Saved after every epoch: weights, their running mean, the best mean so far, AdamW's moments. The arrays go
to a safetensors file of their own name first; then `progress.json`, which names it and its checksum, is
renamed into place; then the file before goes. Whenever the process dies, `progress.json` names a whole file.
"""

import os
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lob.errors import InputError
from models.mamba_lob import MambaLOB
from training.dataset import file_sha256
from training.run_directory import EpochRecord, Record, write_json

PROGRESS_FILE = "progress.json"


class ProgressRecord(Record, frozen=True, kw_only=True):
    """What `progress.json` holds."""

    arrays_file: str
    arrays_sha256: str
    epochs: tuple[EpochRecord, ...]  # epoch 0 first
    seconds: float


def save_progress(
    directory: Path,
    model: MambaLOB,
    averaged: MambaLOB,
    optimizer: torch.optim.Optimizer,
    *,
    best: dict[str, Tensor],
    epochs: tuple[EpochRecord, ...],
    seconds: float,
) -> None:
    """Write the state after `epochs` to `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    arrays = {f"model.{name}": value for name, value in model.state_dict().items()}
    arrays |= {f"averaged.{name}": value for name, value in averaged.state_dict().items()}
    arrays |= {f"best.{name}": value for name, value in best.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        arrays |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    path = directory / f"progress-{epochs[-1].epoch:04d}.safetensors"
    beside = directory / f".{path.name}.part"
    save_file({name: value.detach().clone().contiguous() for name, value in arrays.items()}, beside)
    with beside.open("rb") as file:
        os.fsync(file.fileno())
    beside.replace(path)
    record = ProgressRecord(
        arrays_file=path.name, arrays_sha256=file_sha256(path), epochs=epochs, seconds=seconds
    )
    write_json(directory / PROGRESS_FILE, record)
    remove_arrays(directory, keep=path.name)


def load_progress(
    directory: Path, model: MambaLOB, averaged: MambaLOB, optimizer: torch.optim.Optimizer
) -> tuple[ProgressRecord, dict[str, Tensor]] | None:
    """Put the saved state into the two models and the optimiser; its record and best weights, or None.

    Raises InputError where the files are damaged or of another model.
    """
    path = directory / PROGRESS_FILE
    if not path.is_file():
        return None
    try:
        record = msgspec.json.decode(path.read_bytes(), type=ProgressRecord)
        arrays_path = directory / record.arrays_file
        came = file_sha256(arrays_path)
        arrays = load_file(arrays_path)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise InputError(f"{path}: cannot go on from it: {error}; train anew without --resume") from error
    if came != record.arrays_sha256:
        raise InputError(f"{arrays_path}: sha256 {came} came, {record.arrays_sha256} is allowed")
    moments: dict[int, dict[str, Tensor]] = {}
    weights: dict[str, dict[str, Tensor]] = {"model": {}, "averaged": {}, "best": {}}
    for key, value in arrays.items():
        kind, _, name = key.partition(".")
        if kind == "optimizer":
            index, _, moment = name.partition(".")
            moments.setdefault(int(index), {})[moment] = value
        else:
            weights[kind][name] = value
    try:
        model.load_state_dict(weights["model"])
        averaged.load_state_dict(weights["averaged"])
    except RuntimeError as error:
        raise InputError(f"{arrays_path}: is of another model: {error}") from error
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
    return record, weights["best"]


def remove_arrays(directory: Path, *, keep: str | None = None) -> None:
    """Remove the array files of `save_progress` other than `keep`."""
    for path in directory.glob("progress-*.safetensors"):
        if path.name != keep:
            path.unlink()
