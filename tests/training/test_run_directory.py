"""A run's records on disk: found again, in order, refused where they are not what they should be."""

from pathlib import Path

import pytest

from lob.errors import InputError
from training.run_directory import (
    EpochRecord,
    SeedRecord,
    best_seed,
    finished_seeds,
    read_run,
    read_seed,
    seed_directory,
    write_json,
)


def record(seed: int, loss: float) -> SeedRecord:
    """A seed that ended with that validation log loss."""
    return SeedRecord(
        seed=seed,
        best_epoch=0,
        epochs=(EpochRecord(epoch=0, training_loss=None, validation_log_loss=(loss, loss)),),
        validation_log_loss=(loss, loss),
        temperatures=(1.0, 1.0),
        seconds=1.0,
        threads=1,
        parameters=10,
        libraries={},
    )


def test_seeds_are_found_by_number_and_the_best_by_its_loss(tmp_path: Path) -> None:
    for seed, loss in ((10, 0.8), (2, 0.7), (0, 0.9)):
        write_json(seed_directory(tmp_path, seed) / "result.json", record(seed, loss))
    seed_directory(tmp_path, 5).mkdir()  # unfinished
    assert [path.name for path in finished_seeds(tmp_path)] == ["seed-0", "seed-2", "seed-10"]
    assert best_seed(tmp_path).name == "seed-2"
    assert read_seed(best_seed(tmp_path)) == record(2, 0.7)


def test_a_run_without_a_finished_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished seed"):
        finished_seeds(tmp_path)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a folder that `mambalob train` wrote is needed"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text('{"name": 3}')
    with pytest.raises(InputError, match="not a RunRecord"):
        read_run(tmp_path)


def test_a_write_leaves_one_file(tmp_path: Path) -> None:
    write_json(tmp_path / "deep" / "result.json", record(0, 1.0))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["result.json"]
