"""Training one seed: AdamW on dense supervision, early stopping on validation log loss, resumable.

An epoch is determined by (seed, epoch) and the weights it starts from, so a run that is killed and resumed
ends where one that was not would have, bit for bit, on the same number of threads.
"""

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name for it
from torch import Tensor

from lob.errors import InputError
from models.checkpoint import save_model
from models.configurations import MambaLOBConfig
from models.mamba_lob import MambaLOB, parameter_count
from models.weight_decay import parameter_groups
from training.calibration import fit_temperatures
from training.forecast import validation_log_losses, validation_logits
from training.initialisation import fit_linear_path, fit_normaliser, training_rows
from training.lanes import epoch_batches
from training.libraries import library_versions
from training.pool import LabelledStream
from training.progress import PROGRESS_FILE, load_progress, remove_arrays, save_progress
from training.run_directory import RESULT_FILE, EpochRecord, SeedRecord, write_json


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a model is trained; raises InputError where a setting is out of range."""

    epochs: int = 30
    patience: int = 10  # epochs without a better validation log loss before it ends
    lane_rows: int = 4096  # how far a state is carried
    lanes: int = 16  # side by side in a batch
    chunk_rows: int = 128  # rows between two steps of the optimiser; gradients do not cross
    learning_rate: float = 2e-3
    linear_learning_rate: float = 2e-4  # of the linear path, which starts fitted
    warmup_epochs: float = 2.0
    weight_decay: float = 0.05
    gradient_clip: float = 1.0
    averaging: float = 0.98  # the weights that count are a running mean; 0 takes them as they are
    reflect: bool = True  # show each lane as its mirror image, bids for asks, every other time
    warmup_rows: int = 32  # rows of a segment that are never scored, as serving never answers there

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "lane_rows", "lanes", "chunk_rows", "warmup_rows"):
            value = getattr(self, name)
            if value < 1:
                raise InputError(f"{name}: {value} came, 1 or more is allowed")
        for name in ("learning_rate", "linear_learning_rate", "weight_decay", "warmup_epochs"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name}: {value} came, a finite number from 0 up is allowed")
        if not 0 <= self.averaging < 1:
            raise InputError(f"averaging: {self.averaging} came, a number from 0 up and below 1 is allowed")
        if not self.gradient_clip > 0:
            raise InputError(f"gradient_clip: {self.gradient_clip} came, a number above 0 is allowed")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


class Watcher:
    """Is told how training goes; this one does nothing with it."""

    def on_step(self, epoch: int, share: float, loss: float) -> None:
        """A step of the optimiser was taken, `share` of the epoch being done before it."""

    def on_epoch(self, record: EpochRecord, is_best: bool) -> None:
        """An epoch ended, the fitted linear path alone counting as epoch 0."""


def learning_rate_factor(config: TrainingConfig, epochs_done: float) -> float:
    """Linear warm-up times half a cosine down to 0 at the last epoch; `epochs_done` counts parts of one."""
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(epochs_done / config.epochs, 1.0)))
    return cosine * (min(epochs_done / config.warmup_epochs, 1.0) if config.warmup_epochs else 1.0)


def make_optimizer(model: MambaLOB, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW over the model's two weight-decay groups, the linear path apart with a rate of its own."""
    linear = {id(model.linear.weight), id(model.linear_bias)}
    groups = []
    for group in parameter_groups(model, weight_decay=config.weight_decay):
        others = [parameter for parameter in group["params"] if id(parameter) not in linear]
        groups.append({**group, "params": others, "lr": config.learning_rate})
    groups.append(
        {
            "params": [model.linear.weight, model.linear_bias],
            "weight_decay": 0.0,
            "lr": config.linear_learning_rate,
        }
    )
    for group in groups:
        group["full_rate"] = group["lr"]
    return torch.optim.AdamW(groups)


def dense_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean log loss over every labelled position and horizon of (B, T, H, C) against (B, T, H)."""
    return F.cross_entropy(logits.flatten(0, 2), labels.flatten(), ignore_index=-1)


def start_model(
    streams: Sequence[LabelledStream], model_config: MambaLOBConfig, config: TrainingConfig, seed: int
) -> MambaLOB:
    """A model of that seed with normaliser and linear path fitted to the training parts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MambaLOB(model_config)
    rows, labels = training_rows(streams, reflect=config.reflect)
    fit_normaliser(model, rows)
    fit_linear_path(model, rows, labels)
    return model


def average_weights(averaged: MambaLOB, model: MambaLOB, step: int, decay: float) -> None:
    """Move `averaged` towards `model` after optimiser step number `step` (from 1), slower with `decay`.

    An exponential moving average, over fewer steps while there are not many yet.
    """
    kept = min(decay, step / (step + 9))
    with torch.no_grad():
        for mean, latest in zip(averaged.parameters(), model.parameters(), strict=True):
            mean.lerp_(latest, 1 - kept)


def steps_taken(optimizer: torch.optim.AdamW) -> int:
    """How many steps the optimiser has taken."""
    return max((int(state["step"]) for state in optimizer.state.values()), default=0)


def train_epoch(
    model: MambaLOB,
    averaged: MambaLOB,
    optimizer: torch.optim.AdamW,
    streams: Sequence[LabelledStream],
    config: TrainingConfig,
    *,
    seed: int,
    epoch: int,
    watcher: Watcher,
) -> float:
    """One pass over the training parts, `averaged` following `model`; the mean loss of its steps."""
    generator = np.random.default_rng([seed, epoch])
    batches = epoch_batches(
        streams, lane_rows=config.lane_rows, lanes=config.lanes, reflect=config.reflect, generator=generator
    )
    losses = []
    steps = steps_taken(optimizer)
    for batch, share_before, share_after in batches:
        rows, labels = torch.from_numpy(batch.rows), torch.from_numpy(batch.labels)
        state = model.initial_state(len(rows))
        length = rows.shape[1]
        for start in range(0, length, config.chunk_rows):
            share = share_before + (share_after - share_before) * start / length
            for group in optimizer.param_groups:
                group["lr"] = group["full_rate"] * learning_rate_factor(config, epoch - 1 + share)
            chunk = slice(start, start + config.chunk_rows)
            logits, *next_state = model.forward_from(rows[:, chunk], *state)
            state = tuple(tensor.detach() for tensor in next_state)
            if not bool((labels[:, chunk] >= 0).any()):
                continue
            loss = dense_loss(logits, labels[:, chunk])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
            optimizer.step()
            steps += 1
            average_weights(averaged, model, steps, config.averaging)
            losses.append(loss.item())
            watcher.on_step(epoch, share, losses[-1])
    if not losses or not math.isfinite(sum(losses)):
        raise InputError(
            f"training: epoch {epoch} of seed {seed} has {len(losses)} steps, mean loss "
            f"{np.mean(losses) if losses else 'none'}; a lower learning rate or more rows are needed"
        )
    return float(np.mean(losses))


def train_seed(
    streams: Sequence[LabelledStream],
    validation: Sequence[LabelledStream],
    model_config: MambaLOBConfig,
    config: TrainingConfig,
    *,
    seed: int,
    directory: Path,
    resume: bool = False,
    watcher: Watcher | None = None,
) -> SeedRecord:
    """Train one seed on `streams`, stop by the validation parts of `validation`, write it all to `directory`.

    With `resume` it goes on from the last epoch saved there, if any. Raises InputError where the saved state
    is of another model.
    """
    watcher = watcher or Watcher()
    started = time.monotonic()
    model = start_model(streams, model_config, config, seed)
    optimizer = make_optimizer(model, config)
    averaged = copy.deepcopy(model)
    saved = load_progress(directory, model, averaged, optimizer) if resume else None
    if saved is None:
        remove_arrays(directory)
        losses = validation_log_losses(model, validation, config.warmup_rows)
        first = EpochRecord(epoch=0, training_loss=None, validation_log_loss=tuple(losses.tolist()))
        epochs: tuple[EpochRecord, ...] = (first,)
        best, seconds_before = copy_weights(averaged), 0.0
        watcher.on_epoch(first, True)
    else:
        record, best = saved
        epochs, seconds_before = record.epochs, record.seconds
    while not is_done(epochs, config):
        epoch = epochs[-1].epoch + 1
        training_loss = train_epoch(
            model, averaged, optimizer, streams, config, seed=seed, epoch=epoch, watcher=watcher
        )
        losses = validation_log_losses(averaged, validation, config.warmup_rows)
        latest = EpochRecord(
            epoch=epoch, training_loss=training_loss, validation_log_loss=tuple(losses.tolist())
        )
        is_best = latest.mean_validation_log_loss < best_epoch(epochs).mean_validation_log_loss
        epochs = (*epochs, latest)
        if is_best:
            best = copy_weights(averaged)
        seconds = seconds_before + time.monotonic() - started
        save_progress(directory, model, averaged, optimizer, best=best, epochs=epochs, seconds=seconds)
        watcher.on_epoch(latest, is_best)
    model.load_state_dict(best)
    result = SeedRecord(
        seed=seed,
        best_epoch=best_epoch(epochs).epoch,
        epochs=epochs,
        validation_log_loss=best_epoch(epochs).validation_log_loss,
        temperatures=tuple(validation_temperatures(model, validation, config.warmup_rows)),
        seconds=seconds_before + time.monotonic() - started,
        threads=torch.get_num_threads(),
        parameters=parameter_count(model),
        libraries=library_versions(),
    )
    save_model(model, directory)
    write_json(directory / RESULT_FILE, result)
    (directory / PROGRESS_FILE).unlink(missing_ok=True)
    remove_arrays(directory)
    return result


def is_done(epochs: Sequence[EpochRecord], config: TrainingConfig) -> bool:
    """Whether the last epoch has run or `patience` epochs have gone by without a better one."""
    latest = epochs[-1].epoch
    return latest >= config.epochs or latest - best_epoch(epochs).epoch >= config.patience


def best_epoch(epochs: Sequence[EpochRecord]) -> EpochRecord:
    """The epoch with the least validation log loss, the earliest of equals."""
    return min(epochs, key=lambda record: record.mean_validation_log_loss)


def copy_weights(model: MambaLOB) -> dict[str, Tensor]:
    """The model's weights as they are now."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def validation_temperatures(
    model: MambaLOB, validation: Sequence[LabelledStream], warmup_rows: int
) -> list[float]:
    """(H,) temperatures fitted to the validation parts together."""
    logits, labels = validation_logits(model, validation, warmup_rows)
    return fit_temperatures(logits, labels, validation[0].horizons)
