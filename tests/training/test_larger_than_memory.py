"""Data sets larger than memory: pieces give what the whole gives, and memory does not grow with the rows."""

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest

from lob.errors import InputError
from lob.labels import classify, label_threshold, mean_future_mid_change
from training import scratch, thinning
from training.dataset import Dataset, read_dataset, segment_bounds, write_dataset
from training.initialisation import training_rows
from training.pool import pool_streams
from training.splits import first_row_from, latest_ms

MakeDataset = Callable[..., Dataset]
ROW_BYTES = 204
"""Of a data set on disk: 44 features, three times 8 bytes and a segment."""


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 37 rows, everything of more than a byte on the disk."""
    monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 1)
    for module in ("dataset", "pool", "splits"):
        monkeypatch.setattr(f"training.{module}.PIECE_ROWS", 37)


def test_an_array_on_the_disk_is_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 100)
    assert not isinstance(scratch.scratch_array((25,), np.float32), np.memmap)
    array = scratch.scratch_array((26, 2), np.float32)
    assert isinstance(array, np.memmap)
    assert array.shape == (26, 2)
    assert not array.any()
    array[3] = 7
    assert array.sum() == 14
    monkeypatch.setattr(os, "posix_fallocate", _no_space, raising=False)
    with pytest.raises(InputError, match=r"104 bytes are needed for a while \(No space left on device\)"):
        scratch.scratch_array((26,), np.float32)


def _no_space(*arguments: int) -> None:
    raise OSError(28, os.strerror(28))


@pytest.mark.usefixtures("small_pieces")
def test_labels_and_borders_in_pieces_are_those_of_the_whole(make_dataset: MakeDataset) -> None:
    dataset = make_dataset(rows=1500, segments=3)
    times = dataset.exchange_ms.copy()
    times[700:720] -= 500  # a clock that steps back
    clock = np.maximum.accumulate(times)
    for moment in (int(times[0]) - 1, int(times[710]), int(times[900]), int(times[-1]), int(times[-1]) + 1):
        assert first_row_from(times, moment) == np.searchsorted(clock, moment)
    assert [latest_ms(times, rows) for rows in (1, 37, 38, 710, 1500)] == [
        int(clock[rows - 1]) for rows in (1, 37, 38, 710, 1500)
    ]
    edges = [0, *(np.flatnonzero(np.diff(dataset.segments)) + 1).tolist(), 1500]
    assert segment_bounds(dataset.segments, 0, 1500) == list(pairwise(edges))
    (stream,) = pool_streams([dataset], horizons=(10, 50))
    mids = dataset.mid_half_ticks.astype(np.float64)
    for column, horizon in enumerate((10, 50)):
        stretches = [mids[first:past] for first, past in pairwise(edges)]
        changes = np.concatenate([mean_future_mid_change(stretch, horizon) for stretch in stretches])
        threshold = label_threshold(changes[: stream.split.training.stop])
        assert stream.thresholds[column] == threshold
        np.testing.assert_array_equal(stream.labels[:, column], classify(changes, threshold))


def test_of_many_rows_every_kth_is_taken(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset(rows=3000)
    (whole,) = pool_streams([dataset])
    monkeypatch.setattr(thinning, "MAXIMUM_ROWS", 500)
    (thinned,) = pool_streams([dataset])
    k = thinning.every(len(whole.split.training))
    assert k == 4
    rows, labels = training_rows([thinned], reflect=False)
    np.testing.assert_array_equal(rows, dataset.rows[: thinned.split.training.stop : k])
    assert len(labels) == len(rows) <= 500
    assert np.allclose(thinned.shares("training"), whole.shares("training"), atol=0.1)


def big_dataset(folder: Path, make_dataset: MakeDataset, rows: int) -> Path:
    """A data set of so many rows: a stream's rows again and again."""
    once = make_dataset(rows=min(rows, 50_000))
    times = -(-rows // len(once.rows))

    def again(values: np.ndarray, step: int = 0) -> np.ndarray:
        repeated = [values + np.asarray(step * turn, values.dtype) for turn in range(times)]
        return np.concatenate(repeated)[:rows]

    span_ms = int(once.exchange_ms[-1] - once.exchange_ms[0]) + 1
    dataset = Dataset(
        manifest=msgspec.structs.replace(once.manifest, rows=rows),
        rows=again(once.rows),
        mid_half_ticks=again(once.mid_half_ticks),
        exchange_ms=again(once.exchange_ms, span_ms),
        receive_ns=again(once.receive_ns),
        segments=again(once.segments),
    )
    write_dataset(folder, dataset)
    return folder


def test_memory_does_not_grow_with_the_rows(
    tmp_path: Path, make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thinning, "MAXIMUM_ROWS", 4096)
    monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 1 << 16)
    for module in ("dataset", "pool", "splits"):
        monkeypatch.setattr(f"training.{module}.PIECE_ROWS", 8192)
    peaks = []
    for rows in (60_000, 120_000):
        folder = big_dataset(tmp_path / str(rows), make_dataset, rows)
        tracemalloc.start()
        dataset = read_dataset(folder)
        assert isinstance(dataset.rows, np.memmap)
        (stream,) = pool_streams([dataset])
        training_rows([stream], reflect=True)
        stream.shares("training")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < 120_000 * ROW_BYTES / 2


WORK = """
import resource, sys
from pathlib import Path
from models.configurations import configuration
from training import scratch, thinning
from training.dataset import read_dataset
from training.evaluate import evaluate_streams
from training.held_out import recorded_streams, run_forecasts
from training.loop import TrainingConfig, train_seed
from training.run_directory import read_run
from training.training_run import prepare_run
import torch

def anonymous_kib(name):
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0])

folder, run = map(Path, sys.argv[1:3])
maximum_rows, growth_mib = map(int, sys.argv[3:])
thinning.MAXIMUM_ROWS = maximum_rows
torch.set_num_threads(1)
limit = (anonymous_kib("VmData") << 10) + (growth_mib << 20)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
dataset = read_dataset(folder)
prepared = prepare_run([dataset], run, configuration(block="ssd", size="nano"), TrainingConfig(epochs=1))
result = train_seed(prepared.streams, prepared.validation, prepared.model_config, prepared.config,
                    seed=0, directory=prepared.seed_directory(0))
streams = recorded_streams(read_run(run), [dataset])
forecasts = run_forecasts(run, streams, "test")
evaluation = evaluate_streams("big", read_run(run), streams, streams, forecasts, part="test")
print(result.best_epoch, evaluation.streams[0].horizons[0].rows, anonymous_kib("RssAnon") >> 10)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA counts so on Linux alone")
def test_training_and_evaluation_within_less_memory_than_the_data_set(
    tmp_path: Path, make_dataset: MakeDataset
) -> None:
    """1.5 million rows, 306 MB, trained and scored within 256 MiB more data than the imports take."""
    folder = big_dataset(tmp_path / "big", make_dataset, 1_500_000)
    done = subprocess.run(
        [sys.executable, "-c", WORK, str(folder), str(tmp_path / "run"), str(1 << 15), "256"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    _, scored, resident_mib = map(int, done.stdout.split())
    assert 0 < scored <= 1 << 15
    print(f"{resident_mib} MiB of anonymous memory at the end")
