"""A small synthetic stream, and real captures built once for all tests of training."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from inference.manifest import TrainingFile
from lob.schema import LOB44
from training.builder import BuildConfig, build_dataset
from training.dataset import Dataset, DatasetManifest, schema_reference

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
