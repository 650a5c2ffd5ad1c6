"""Parts and thresholds of training found again; an artifact's answers are its model's."""

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest

from inference.artifact import Artifact
from lob.errors import InputError
from training.dataset import read_dataset
from training.export import export_artifact
from training.held_out import (
    artifact_forecasts,
    artifact_record,
    recorded_streams,
    run_forecasts,
)
from training.pool import pool_streams
from training.run_directory import read_run
from training.trained_model import load_trained


@pytest.fixture(scope="module")
def artifact(
    trained_run: Path, data_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Artifact:
    """The run's seed 1 as an artifact."""
    model, manifest = load_trained(trained_run, seed=1, name="tiny", version="1")
    rows = read_dataset(data_folders["walk"]).rows
    return export_artifact(model, manifest, tmp_path_factory.mktemp("models") / "tiny", rows).artifact


def test_parts_and_thresholds_are_those_of_training_whatever_else_is_given(
    trained_run: Path, data_folders: dict[str, Path]
) -> None:
    record = read_run(trained_run)
    for names in (("walk", "walk-too"), ("walk-too",), ("walk-too", "later")):
        streams = recorded_streams(record, [read_dataset(data_folders[name]) for name in names])
        stream = next(each for each in streams if each.name == "walk-too")
        known = record.stream("walk-too")
        assert known is not None
        assert stream.thresholds == known.thresholds
        assert (stream.split.test.start, stream.split.test.stop) == known.test
        assert stream.split.validation_from_ms == known.validation_from_ms


def test_an_unseen_stream_is_split_by_itself(trained_run: Path, data_folders: dict[str, Path]) -> None:
    later = read_dataset(data_folders["later"])
    walk = read_dataset(data_folders["walk"])
    found = recorded_streams(read_run(trained_run), [walk, later])[1]
    (alone,) = pool_streams([later])
    assert found.split == alone.split
    assert found.thresholds == alone.thresholds


def test_other_captures_under_a_known_name_are_refused(
    trained_run: Path, data_folders: dict[str, Path]
) -> None:
    later = read_dataset(data_folders["later"])
    renamed = dataclasses.replace(later, manifest=msgspec.structs.replace(later.manifest, name="walk"))
    with pytest.raises(InputError, match="build it under another name"):
        recorded_streams(read_run(trained_run), [renamed])


def test_another_sampling_is_refused(trained_run: Path, data_folders: dict[str, Path]) -> None:
    later = read_dataset(data_folders["later"])
    manifest = msgspec.structs.replace(later.manifest, sampling="every_message")
    with pytest.raises(InputError, match="later has sampling every_message"):
        recorded_streams(read_run(trained_run), [dataclasses.replace(later, manifest=manifest)])


def test_the_engine_answers_what_the_model_answers(
    trained_run: Path, data_folders: dict[str, Path], artifact: Artifact
) -> None:
    record = artifact_record(artifact)
    assert record == read_run(trained_run)
    streams = recorded_streams(record, [read_dataset(data_folders[n]) for n in ("walk", "walk-too")])
    served = artifact_forecasts(artifact, streams, "training")
    for stream in streams:
        trained = run_forecasts(trained_run, [stream], "training")[stream.name][1]
        (answered,) = served[stream.name]
        assert trained.seed == answered.seed == 1
        assert trained.temperatures == answered.temperatures
        warm = np.ones(len(trained.logits), dtype=bool)
        for first, _ in stream.segments("training"):
            warm[first : first + artifact.manifest.warmup_rows - 1] = False
        np.testing.assert_allclose(answered.logits[warm], trained.logits[warm], atol=1e-4)
        assert not answered.logits[~warm].any()


def test_an_artifact_without_its_run_is_refused(artifact: Artifact) -> None:
    training = msgspec.structs.replace(artifact.manifest.training, details={})
    bare = dataclasses.replace(
        artifact, manifest=msgspec.structs.replace(artifact.manifest, training=training)
    )
    with pytest.raises(InputError, match=r"tiny: training\.details\.run: not a training run"):
        artifact_record(bare)
