"""A run is written down before it starts, and only gone on with as what it is."""

from dataclasses import replace
from pathlib import Path

import pytest

from lob.errors import InputError
from models.configurations import MambaLOBConfig, configuration
from training.dataset import Dataset, read_dataset
from training.loop import TrainingConfig
from training.run_directory import read_run
from training.training_run import TrainingRun, prepare_run

CONFIG = TrainingConfig(epochs=2)


@pytest.fixture
def datasets(data_folders: dict[str, Path]) -> list[Dataset]:
    """The two data sets of the same time."""
    return [read_dataset(data_folders[name]) for name in ("walk", "walk-too")]


def prepare(
    datasets: list[Dataset],
    directory: Path,
    *,
    model: MambaLOBConfig | None = None,
    config: TrainingConfig = CONFIG,
    validate_on: tuple[str, ...] = (),
    resume: bool = False,
) -> TrainingRun:
    """`prepare_run` of the smallest model."""
    model = model or configuration(block="ssd", size="nano")
    return prepare_run(datasets, directory, model, config, validate_on=validate_on, resume=resume)


def test_the_record_holds_what_the_run_was_made_of(tmp_path: Path, datasets: list[Dataset]) -> None:
    run = prepare(datasets, tmp_path / "run", validate_on=("walk",))
    record = read_run(tmp_path / "run")
    assert record.name == "run"
    assert record.validation_streams == ("walk",)
    assert [stream.name for stream in run.validation] == ["walk"]
    assert record.training == CONFIG.as_dict()
    for stream, found in zip(run.streams, record.streams, strict=True):
        assert found.thresholds == stream.thresholds
        assert found.test == (stream.split.test.start, stream.split.test.stop)
        assert found.files == stream.dataset.manifest.files


def test_streams_with_a_validation_part_validate_by_default(tmp_path: Path, datasets: list[Dataset]) -> None:
    run = prepare(datasets, tmp_path / "run")
    long_enough = [stream.name for stream in run.streams if len(stream.split.validation) > 132]
    assert [stream.name for stream in run.validation] == long_enough


def test_a_folder_with_a_run_is_gone_on_with_only_when_asked(tmp_path: Path, datasets: list[Dataset]) -> None:
    prepare(datasets, tmp_path / "run")
    with pytest.raises(InputError, match="holds a run already"):
        prepare(datasets, tmp_path / "run")
    assert prepare(datasets, tmp_path / "run", resume=True).resume


@pytest.mark.parametrize("change", ["config", "model", "data"])
def test_another_run_is_never_gone_on_with(tmp_path: Path, datasets: list[Dataset], change: str) -> None:
    prepare(datasets, tmp_path / "run")
    model = configuration(block="s6", size="nano") if change == "model" else None
    config = replace(CONFIG, lanes=3) if change == "config" else CONFIG
    used = datasets[:1] if change == "data" else datasets
    word = {"config": "training;", "model": "model;", "data": "streams"}[change]
    with pytest.raises(InputError, match=f"a run with other {word}"):
        prepare(used, tmp_path / "run", model=model, config=config, resume=True)


def test_a_folder_of_something_else_is_refused(tmp_path: Path, datasets: list[Dataset]) -> None:
    (tmp_path / "notes.txt").write_text("keep")
    with pytest.raises(InputError, match="exists and is no training run"):
        prepare(datasets, tmp_path)


def test_an_unknown_stream_to_validate_on_is_refused(tmp_path: Path, datasets: list[Dataset]) -> None:
    with pytest.raises(InputError, match="reference: 'other' came"):
        prepare(datasets, tmp_path / "run", validate_on=("other",))
    assert not (tmp_path / "run").exists()


def test_a_stream_too_short_to_validate_on_is_refused(tmp_path: Path, datasets: list[Dataset]) -> None:
    short = replace(
        datasets[0],
        manifest=datasets[0].manifest,
        **{
            name: getattr(datasets[0], name)[:500]
            for name in ("rows", "mid_half_ticks", "exchange_ms", "receive_ns", "segments")
        },
    )
    with pytest.raises(InputError, match="walk has 0 rows to validate on, more than 132 are needed"):
        prepare([short], tmp_path / "run", validate_on=("walk",))
    with pytest.raises(InputError, match="no stream is long enough to validate on"):
        prepare([short], tmp_path / "run")
