"""A small synthetic stream, and real captures built once for all tests of training."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.manifest import GraphKind, TrainingFile
from lob.schema import LOB44
from models.checkpoint import save_model
from models.configurations import Block, Size, configuration
from models.mamba_lob import MambaLOB, parameter_count
from training.builder import BuildConfig, build_dataset
from training.dataset import Dataset, DatasetManifest, read_dataset, schema_reference, write_dataset
from training.graph import graph_bytes
from training.loop import TrainingConfig, train_seed
from training.run_directory import (
    RESULT_FILE,
    RUN_FILE,
    EpochRecord,
    RunRecord,
    SeedRecord,
    StreamRecord,
    seed_directory,
    write_json,
)
from training.splits import split_by_time
from training.training_run import prepare_run

MakeDataset = Callable[..., Dataset]


@pytest.fixture(scope="session")
def make_dataset() -> MakeDataset:
    """A maker of streams of random features whose mid drifts towards the level-1 imbalance."""

    def make(
        name: str = "walk", *, rows: int = 1200, seed: int = 0, first_ms: int = 1_000_000, segments: int = 1
    ) -> Dataset:
        rng = np.random.default_rng(seed)
        features = rng.normal(size=(rows, LOB44.feature_count)).astype(np.float32)
        imbalance = np.convolve(rng.normal(size=rows + 19), np.ones(20) / 20, "valid") * 3
        imbalance = np.clip(imbalance, -1, 1)
        index = {feature: column for column, feature in enumerate(LOB44.feature_names)}
        features[:, index["imbalance_1"]] = imbalance
        features[:, index["microprice"]] = imbalance / 2
        features[:, index["spread"]] = 1.0
        moves = rng.random(rows) < 0.3 * np.abs(imbalance)
        mid_half_ticks = 100_000 + 2 * np.cumsum(np.sign(imbalance) * moves).astype(np.int64)
        exchange_ms = first_ms + np.cumsum(rng.integers(0, 40, rows))
        bounds = np.linspace(0, rows, segments + 1).astype(int)
        manifest = DatasetManifest(
            name=name,
            venue="bybit",
            symbol="TESTUSDT",
            tick_size="0.1",
            schema=schema_reference(LOB44),
            sampling="top_changed",
            rows=rows,
            segments=segments,
            files=(TrainingFile(name="made.ndjson", sha256="0" * 64, first_ns=1, last_ns=2, rows=rows),),
            frames={"row": rows},
        )
        return Dataset(
            manifest=manifest,
            rows=features,
            mid_half_ticks=mid_half_ticks,
            exchange_ms=exchange_ms.astype(np.int64),
            receive_ns=exchange_ms.astype(np.int64) * 1_000_000,
            segments=np.searchsorted(bounds[1:], np.arange(rows), side="right").astype(np.int32),
        )

    return make


@pytest.fixture(scope="session")
def spot_captures(data_dir: Path) -> list[Path]:
    """Eleven minutes of spot BTCUSDT in two files, of which the second continues the first."""
    return [data_dir / "binance" / f"spot_btcusdt_2024080{day}.gz" for day in (8, 9)]


@pytest.fixture(scope="session")
def spot_dataset(spot_captures: list[Path]) -> Dataset:
    """The rows of spot BTCUSDT."""
    return build_dataset(spot_captures, BuildConfig(name="spot-btcusdt"))


RandomModel = Callable[[Block, Size], MambaLOB]
ModelGraphs = Callable[[Block, Size], dict[GraphKind, bytes]]


@pytest.fixture(scope="session")
def random_model(spot_dataset: Dataset) -> RandomModel:
    """random_model(block, size): weights in every path, normalised to real rows; the same one each time."""

    def make(block: Block, size: Size) -> MambaLOB:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = MambaLOB(configuration(block=block, size=size)).eval()
            for weight in (model.head.weight, model.linear.weight, model.linear_bias):  # these start at zero
                torch.nn.init.normal_(weight, std=0.2)
        rows = torch.from_numpy(spot_dataset.rows)
        model.normaliser.set(rows.mean(0), rows.std(0))
        return model

    return make


@pytest.fixture(scope="session")
def model_graphs(random_model: RandomModel) -> ModelGraphs:
    """model_graphs(block, size): both graphs of `random_model`, traced once a session."""
    return functools.cache(lambda block, size: graph_bytes(random_model(block, size), 100, {"kept": "yes"}))


@pytest.fixture
def finished_run(
    tmp_path_factory: pytest.TempPathFactory, random_model: RandomModel, spot_dataset: Dataset
) -> Path:
    """The folder of a run with two finished seeds of the smallest SSD model, trained on spot BTCUSDT."""
    run = tmp_path_factory.mktemp("run")
    model = random_model("ssd", "nano")
    split = split_by_time({spot_dataset.name: spot_dataset.exchange_ms}, purge_rows=100)[spot_dataset.name]
    manifest = spot_dataset.manifest
    stream = StreamRecord(
        name=spot_dataset.name,
        venue=manifest.venue,
        symbol=manifest.symbol,
        tick_size=manifest.tick_size,
        files=manifest.files,
        rows=manifest.rows,
        training=(split.training.start, split.training.stop),
        validation=(split.validation.start, split.validation.stop),
        test=(split.test.start, split.test.stop),
        validation_from_ms=split.validation_from_ms,
        test_from_ms=split.test_from_ms,
        reference=split.reference,
        thresholds=(0.0, 1e-5, 1e-5),
        training_shares=((0.2, 0.6, 0.2),) * 3,
    )
    record = RunRecord(
        name="spot",
        schema=manifest.schema,
        sampling=manifest.sampling,
        context="stream",
        window_length=100,
        warmup_rows=32,
        horizons=model.config.horizons,
        model=model.config.as_dict(),
        training={},
        streams=(stream,),
        validation_streams=(stream.name,),
    )
    write_json(run / RUN_FILE, record)
    for seed, loss in ((0, 0.9), (1, 0.8)):
        epoch = EpochRecord(epoch=0, training_loss=None, validation_log_loss=(loss,) * 3)
        result = SeedRecord(
            seed=seed,
            best_epoch=0,
            epochs=(epoch,),
            validation_log_loss=(loss,) * 3,
            temperatures=(1.1, 1.2, 1.3),
            seconds=12.5,
            threads=1,
            parameters=parameter_count(model),
            libraries={},
        )
        write_json(seed_directory(run, seed) / RESULT_FILE, result)
        save_model(model, seed_directory(run, seed))
    return run


@pytest.fixture(scope="session")
def data_folders(tmp_path_factory: pytest.TempPathFactory, make_dataset: MakeDataset) -> dict[str, Path]:
    """Three data sets on disk by name: two of the same time, and one of another that no run has seen."""
    folder = tmp_path_factory.mktemp("data")
    for dataset in (
        make_dataset("walk", rows=1600),
        make_dataset("walk-too", rows=1100, seed=1, segments=2),
        make_dataset("later", rows=1200, seed=2, first_ms=9_000_000),
    ):
        write_dataset(folder / dataset.name, dataset)
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory, data_folders: dict[str, Path]) -> Path:
    """A run of two seeds of the smallest model on the two data sets of the same time."""
    directory = tmp_path_factory.mktemp("runs") / "tiny"
    run = prepare_run(
        [read_dataset(data_folders[name]) for name in ("walk", "walk-too")],
        directory,
        configuration(block="ssd", size="nano"),
        TrainingConfig(epochs=2, lane_rows=200, lanes=4, chunk_rows=64),
        validate_on=("walk",),
    )
    for seed in (0, 1):
        train_seed(
            run.streams,
            run.validation,
            run.model_config,
            run.config,
            seed=seed,
            directory=run.seed_directory(seed),
        )
    return directory
