import msgspec
import numpy as np
import pytest

from lob.errors import InputError
from models.mamba_lob import parameter_count
from training.dataset import write_dataset
from training.run_directory import read_run
from training.trained_model import held_out_rows, load_trained


def test_the_best_seed_becomes_the_manifest(finished_run):
    model, manifest = load_trained(finished_run, seed=None, name=None, version="3")
    record = read_run(finished_run)
    assert (manifest.name, manifest.version, manifest.context) == (record.name, "3", "stream")
    assert manifest.training.seed == 1  # the one of less validation log loss
    assert manifest.temperatures == (1.1, 1.2, 1.3)
    assert manifest.training.rows == record.streams[0].training[1]
    assert manifest.training.files == record.streams[0].files
    assert manifest.training.details["run"] == msgspec.to_builtins(record)
    assert "epochs" not in manifest.training.details["seed"]
    assert manifest.architecture.parameters == parameter_count(model)
    assert manifest.architecture.details["conv_width"] == 4
    assert {each.name: each.shape[1:] for each in manifest.state} == model.config.state_shapes
    assert manifest.metrics == {}
    assert manifest.libraries.keys() >= {"torch", "onnxruntime"}


def test_a_seed_and_a_name_can_be_asked_for(finished_run):
    _, manifest = load_trained(finished_run, seed=0, name="other", version="1")
    assert (manifest.training.seed, manifest.name) == (0, "other")


def test_the_evaluation_of_the_run_becomes_the_metrics(finished_run):
    path = finished_run / "evaluation.json"
    path.write_text('{"log_loss": [0.5, 0.6, 0.7]}')
    assert load_trained(finished_run, seed=0, name=None, version="1")[1].metrics == {
        "log_loss": [0.5, 0.6, 0.7]
    }
    path.write_text("[1]")
    with pytest.raises(InputError, match=r"evaluation.json: not a JSON object"):
        load_trained(finished_run, seed=0, name=None, version="1")


def test_a_seed_that_is_not_there_is_named(finished_run):
    with pytest.raises(InputError, match=r"seed-7/result.json: No such file"):
        load_trained(finished_run, seed=7, name=None, version="1")


def test_rows_come_from_the_part_that_training_has_not_seen(finished_run, spot_dataset, tmp_path):
    write_dataset(tmp_path / "data", spot_dataset)
    record = read_run(finished_run)
    first, past = record.streams[0].test
    rows = held_out_rows(tmp_path / "data", record)
    np.testing.assert_array_equal(rows, spot_dataset.rows[first:past])


def test_a_stream_that_was_not_trained_on_is_taken_whole(finished_run, make_dataset, tmp_path):
    other = make_dataset("other")
    write_dataset(tmp_path / "data", other)
    np.testing.assert_array_equal(held_out_rows(tmp_path / "data", read_run(finished_run)), other.rows)


def test_rows_of_a_capture(finished_run, spot_captures, spot_dataset):
    rows = held_out_rows(spot_captures[0], read_run(finished_run))
    np.testing.assert_array_equal(rows, spot_dataset.rows[: len(rows)])
    assert len(rows) > 1000


def test_rows_of_another_sampling_are_refused(finished_run, spot_dataset, tmp_path):
    manifest = msgspec.structs.replace(spot_dataset.manifest, sampling="every_message")
    write_dataset(tmp_path / "data", type(spot_dataset)(**{**vars(spot_dataset), "manifest": manifest}))
    with pytest.raises(InputError, match="sampling every_message came, the model was trained on top_changed"):
        held_out_rows(tmp_path / "data", read_run(finished_run))


def test_what_is_neither_data_set_nor_capture_is_refused(finished_run, tmp_path):
    with pytest.raises(InputError, match="a data set's folder or a capture file is allowed"):
        held_out_rows(tmp_path, read_run(finished_run))
