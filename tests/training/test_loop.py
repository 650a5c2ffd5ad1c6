"""Training: the same seed gives the same weights, killed and resumed included; it learns; it stops early."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lob.errors import InputError
from models.checkpoint import load_model
from models.configurations import MambaLOBConfig, configuration
from training.dataset import Dataset
from training.forecast import validation_log_losses
from training.loop import (
    TrainingConfig,
    Watcher,
    best_epoch,
    is_done,
    learning_rate_factor,
    make_optimizer,
    start_model,
    train_seed,
)
from training.pool import LabelledStream, pool_streams
from training.run_directory import EpochRecord, SeedRecord, read_seed

CONFIG = TrainingConfig(epochs=3, patience=3, lane_rows=200, lanes=4, chunk_rows=64, learning_rate=5e-3)


class KilledError(Exception):
    """Stands for the process being killed."""


class KillAt(Watcher):
    """Kills training in the middle of an epoch, or right after one."""

    def __init__(self, epoch: int, *, in_the_middle: bool) -> None:
        self.epoch, self.in_the_middle = epoch, in_the_middle

    def on_step(self, epoch: int, share: float, loss: float) -> None:
        """Die half-way."""
        if self.in_the_middle and epoch == self.epoch and share > 0.4:
            raise KilledError

    def on_epoch(self, record: EpochRecord, is_best: bool) -> None:
        """Die at the end."""
        if not self.in_the_middle and record.epoch == self.epoch:
            raise KilledError


@pytest.fixture(scope="module")
def streams(make_dataset: Callable[..., Dataset]) -> list[LabelledStream]:
    """Two streams of which the imbalance tells the direction."""
    datasets = [make_dataset("one", rows=1600, segments=2), make_dataset("two", rows=1000, seed=1)]
    return pool_streams(datasets, horizons=(10, 50, 100))


@pytest.fixture(scope="module")
def model_config() -> MambaLOBConfig:
    """The smallest model."""
    return configuration(block="ssd", size="nano")


@pytest.fixture(scope="module")
def trained(
    streams: list[LabelledStream], model_config: MambaLOBConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, SeedRecord]:
    """A seed that ran through."""
    directory = tmp_path_factory.mktemp("whole") / "seed-0"
    return directory, train_seed(streams, streams[:1], model_config, CONFIG, seed=0, directory=directory)


def same_result(directory: Path, other: Path) -> bool:
    """Whether two finished seeds hold the same weights, figures and temperatures, bit for bit."""
    one, two = (load_file(each / "model.safetensors") for each in (directory, other))
    first, second = read_seed(directory), read_seed(other)
    return (
        one.keys() == two.keys()
        and all(torch.equal(one[name], two[name]) for name in one)
        and first.epochs == second.epochs
        and first.temperatures == second.temperatures
    )


@pytest.mark.parametrize(("epoch", "in_the_middle"), [(1, True), (2, True), (1, False), (3, False)])
def test_a_killed_run_goes_on_to_the_same_result(
    trained: tuple[Path, SeedRecord],
    streams: list[LabelledStream],
    model_config: MambaLOBConfig,
    tmp_path: Path,
    epoch: int,
    in_the_middle: bool,
) -> None:
    arguments = (streams, streams[:1], model_config, CONFIG)
    killer = KillAt(epoch, in_the_middle=in_the_middle)
    with pytest.raises(KilledError):
        train_seed(*arguments, seed=0, directory=tmp_path, watcher=killer)
    assert not (tmp_path / "result.json").exists()
    train_seed(*arguments, seed=0, directory=tmp_path, resume=True)
    assert same_result(trained[0], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.json",
        "model.safetensors",
        "result.json",
    ]


def test_another_seed_gives_another_model(
    trained: tuple[Path, SeedRecord],
    streams: list[LabelledStream],
    model_config: MambaLOBConfig,
    tmp_path: Path,
) -> None:
    train_seed(streams, streams[:1], model_config, CONFIG, seed=1, directory=tmp_path)
    assert not same_result(trained[0], tmp_path)


def test_it_learns_and_keeps_the_best_epoch(
    trained: tuple[Path, SeedRecord], streams: list[LabelledStream]
) -> None:
    directory, result = trained
    assert [record.epoch for record in result.epochs] == list(range(len(result.epochs)))
    assert result.best_epoch == best_epoch(result.epochs).epoch
    assert result.mean_validation_log_loss == min(r.mean_validation_log_loss for r in result.epochs)
    first, last = result.epochs[1].training_loss, result.epochs[-1].training_loss
    assert first is not None
    assert last is not None
    assert last < first
    assert len(result.temperatures) == 3
    assert result.parameters == sum(p.numel() for p in load_model(directory).parameters())


def test_epoch_nought_is_the_linear_path_alone(
    trained: tuple[Path, SeedRecord], streams: list[LabelledStream], model_config: MambaLOBConfig
) -> None:
    fresh = start_model(streams, model_config, CONFIG, seed=0)
    expected = validation_log_losses(fresh, streams[:1], CONFIG.warmup_rows)
    assert trained[1].epochs[0].validation_log_loss == tuple(expected.tolist())


def test_without_averaging_the_latest_weights_count(
    streams: list[LabelledStream], model_config: MambaLOBConfig, tmp_path: Path
) -> None:
    config = replace(CONFIG, averaging=0.0, epochs=1)
    result = train_seed(streams, streams[:1], model_config, config, seed=0, directory=tmp_path)
    assert len(result.epochs) == 2


def test_training_stops_when_validation_no_longer_improves() -> None:
    losses = [1.0, 0.9, 0.95, 0.91, 0.92]
    epochs = [
        EpochRecord(epoch=number, training_loss=0.5, validation_log_loss=(loss,))
        for number, loss in enumerate(losses)
    ]
    config = replace(CONFIG, epochs=50, patience=3)
    assert [is_done(epochs[: count + 1], config) for count in range(5)] == [False, False, False, False, True]
    assert best_epoch(epochs).epoch == 1


def test_the_learning_rate_warms_up_and_ends_at_nought() -> None:
    config = replace(CONFIG, epochs=10, warmup_epochs=2.0)
    rates = [learning_rate_factor(config, done / 10) for done in range(101)]
    assert rates[0] == 0.0
    assert rates[100] == pytest.approx(0.0)
    peak = rates.index(max(rates))
    assert 15 <= peak <= 20
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


def test_the_optimizer_has_two_groups_and_the_linear_path(
    streams: list[LabelledStream], model_config: MambaLOBConfig
) -> None:
    model = start_model(streams, model_config, CONFIG, seed=0)
    config = replace(CONFIG, linear_learning_rate=1e-4, weight_decay=0.3)
    decayed, free, linear = make_optimizer(model, config).param_groups
    assert (decayed["weight_decay"], free["weight_decay"], linear["weight_decay"]) == (0.3, 0.0, 0.0)
    assert (decayed["lr"], free["lr"], linear["lr"]) == (5e-3, 5e-3, 1e-4)
    together = [id(p) for group in (decayed, free, linear) for p in group["params"]]
    assert sorted(together) == sorted(id(p) for p in model.parameters())
    assert {id(p) for p in linear["params"]} == {id(model.linear.weight), id(model.linear_bias)}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": 0}, "epochs: 0 came, 1 or more"),
        ({"lanes": -1}, "lanes: -1 came"),
        ({"learning_rate": float("nan")}, "learning_rate: nan came"),
        ({"weight_decay": -0.1}, "weight_decay: -0.1 came"),
        ({"averaging": 1.0}, r"averaging: 1\.0 came"),
        ({"gradient_clip": 0.0}, r"gradient_clip: 0\.0 came"),
    ],
)
def test_a_setting_out_of_range_is_refused(setting: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainingConfig(**setting)  # type: ignore[arg-type] # one setting of any kind at a time


def test_training_that_blows_up_is_an_error(
    streams: list[LabelledStream], model_config: MambaLOBConfig, tmp_path: Path
) -> None:
    config = replace(CONFIG, learning_rate=1e12, linear_learning_rate=1e30, gradient_clip=1e12)
    with pytest.raises(InputError, match="a lower learning rate"):
        train_seed(streams, streams[:1], model_config, config, seed=0, directory=tmp_path)
