"""Shorter formats of a real artifact on real held-out rows: their cost is noted, and too much is refused."""

import dataclasses
import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from inference.artifact import load_artifact, verify_artifact, write_artifact
from inference.engines.selection import create_engine
from inference.graph_interface import graph_metadata
from inference.precision import Precision
from lob.errors import ArtifactError, InputError
from lob.window import RingWindow
from mambalob import main
from tests.training.plain_rows import served_rows
from training.accuracy_cost import AccuracyLimits, measure_costs
from training.dataset import write_dataset
from training.held_out import recorded_streams
from training.reduction import reduce_artifact
from training.run_directory import read_run
from training.splits import Part
from training.trained_model import load_trained

LENIENT = AccuracyLimits(
    log_loss_rise=1, calibration_error_rise=1, macro_f1_loss=1, changed_directions=1, probability_difference=1
)


@pytest.fixture
def streams(finished_run, spot_dataset):
    return recorded_streams(read_run(finished_run), [spot_dataset])


@pytest.fixture
def artifact(finished_run, model_graphs, tmp_path):
    """The artifact of a model with random weights, in float32 alone."""
    _, manifest = load_trained(finished_run, seed=1, name="tiny", version="1")
    graphs = {}
    for kind, graph in model_graphs("ssd", "nano").items():
        parsed = onnx.load_from_string(graph)
        del parsed.metadata_props[:]
        onnx.helper.set_model_props(parsed, graph_metadata(manifest))
        graphs[kind] = parsed.SerializeToString()
    return write_artifact(tmp_path / "source" / "tiny", manifest, graphs, card="# tiny\n\nWords.\n")


def directions(artifact, stream, precision):
    """(N, H) likeliest classes of the fused engine on the test part."""
    part = stream.split.test
    engine = create_engine("fused", artifact, RingWindow(100, 44), precision=precision)
    pushed = (engine.push(stream.dataset.rows[number]) for number in range(part.start, part.stop))
    # A class's logit by a temperature, the same for all classes of a horizon, leaves the likeliest as it is.
    return np.array([np.zeros(3) if answer is None else answer.argmax(axis=1) for answer in pushed])


def test_formats_are_written_with_what_they_cost(artifact, streams, tmp_path):
    reduction = reduce_artifact(
        artifact, tmp_path / "zoo" / "tiny", streams, ["int8", "float16"], limits=LENIENT
    )
    written = load_artifact(tmp_path / "zoo" / "tiny")
    assert written == reduction.artifact
    assert verify_artifact(written).keys() == {
        (kind, precision) for kind in ("step", "window") for precision in ("float32", "float16")
    }
    assert reduction.left_out.keys() == {"step int8", "window int8"}  # the smallest model: it does not pay
    costs = written.manifest.accuracy_costs
    assert {(cost.engine, cost.precision) for cost in costs} == {
        ("fused", "int8"),
        ("ort-step", "float16"),
        ("ort-window", "float16"),
    }
    assert [cost.horizon for cost in costs if cost.engine == "fused"] == [10, 50, 100]
    for cost in costs:
        assert cost.stream == "spot-btcusdt"
        assert 900 < cost.rows < len(streams[0].split.test)
        assert 0 < cost.probability_difference < 0.2
        assert cost.log_loss > 0.5
        assert 0 < cost.macro_f1 < 1
    exact, reduced = (directions(artifact, streams[0], precision) for precision in ("float32", "int8"))
    served = served_rows(streams[0], "test", 32)
    changed = (exact != reduced)[served].mean(axis=0)
    noted = [cost.changed_directions for cost in costs if cost.precision == "int8"]
    assert noted == pytest.approx(changed, abs=1e-6)
    assert max(noted) > 0
    card = written.card()
    assert card.startswith("# tiny\n\nWords.\n\n## What the shorter number formats cost\n")
    assert "| fused | int8 |" in card


def test_made_again_they_take_the_place_of_those_that_were_there(artifact, streams, tmp_path):
    directory = tmp_path / "zoo" / "tiny"
    first = reduce_artifact(artifact, directory, streams, ["float16"], limits=LENIENT).artifact
    assert len(first.manifest.all_graphs()) == 4
    second = reduce_artifact(first, directory, streams, ["int16"], limits=LENIENT, replace=True).artifact
    assert second.manifest.graphs == artifact.manifest.graphs
    assert second.manifest.reduced_graphs == {}
    assert {cost.precision for cost in second.manifest.accuracy_costs} == {"int16"}
    assert not (directory / "step.float16.onnx").exists()
    assert second.card().count("## What the shorter") == 1


@pytest.mark.parametrize(
    "limits",
    [
        {"log_loss_rise": 0.0},
        {"calibration_error_rise": 0.0},
        {"macro_f1_loss": 0.0},
        {"changed_directions": 0.0},
        {"probability_difference": 1e-4},
    ],
)
def test_beyond_a_limit_nothing_is_written(artifact, streams, tmp_path, limits):
    (name,) = limits
    with pytest.raises(
        ArtifactError,
        match=rf"^\S+ in int8, spot-btcusdt at \d+ rows: {name} \S+ came, at most \S+ is allowed; nothing is",
    ):
        reduce_artifact(
            artifact,
            tmp_path / "zoo" / "tiny",
            streams,
            ["int8"],
            limits=dataclasses.replace(LENIENT, **limits),
        )
    assert not (tmp_path / "zoo").exists()


def test_the_command_notes_costs_and_refuses_by_name(artifact, spot_dataset, tmp_path):
    write_dataset(tmp_path / "spot-btcusdt", spot_dataset)
    asked = ["quantise", str(artifact.directory), "--data", str(tmp_path / "spot-btcusdt")]
    asked += ["--precision", "int8", "--out", str(tmp_path / "zoo")]
    refused = CliRunner().invoke(main, [*asked, "--limit", "probability_difference=0.0001"])
    assert refused.exit_code == 1
    assert "probability_difference 0." in refused.stderr
    assert "at most 0.0001 is allowed; nothing is written" in refused.stderr
    assert not (tmp_path / "zoo").exists()
    lenient = [part for name in vars(LENIENT) for part in ("--limit", f"{name}=1")]
    done = CliRunner().invoke(main, [*asked, *lenient, "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert {cost["engine"] for cost in said["accuracy_costs"]} == {"fused"}
    assert said["left_out"].keys() == {"step int8", "window int8"}
    listed = CliRunner().invoke(main, ["models", "verify", str(tmp_path / "zoo" / "tiny")])
    assert "fused int8 costs at most: log loss " in listed.stdout


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("accuracy=1", "limit: 'accuracy' came; allowed: log_loss_rise, calibration_error_rise,"),
        ("log_loss_rise", "limit: 'log_loss_rise' came; MEASURE=VALUE is allowed"),
        ("log_loss_rise=-1", "log_loss_rise: -1.0 came; allowed: 0 or more"),
        ("log_loss_rise=nan", "log_loss_rise: nan came; allowed: 0 or more"),
    ],
)
def test_a_limit_that_is_none_is_refused(artifact, spot_dataset, tmp_path, limit, said):
    write_dataset(tmp_path / "spot-btcusdt", spot_dataset)
    asked = ["quantise", str(artifact.directory), "--data", str(tmp_path / "spot-btcusdt")]
    refused = CliRunner().invoke(main, [*asked, "--out", str(tmp_path), "--limit", limit])
    assert refused.exit_code == 1
    assert said in refused.stderr


def test_formats_are_asked_for_once_and_are_not_float32(artifact, streams, tmp_path):
    refused: list[list[Precision]] = [[], ["float32"], ["int8", "int8"]]
    for precisions in refused:
        with pytest.raises(InputError, match=r"precision: .* came; formats other than float32 are allowed"):
            reduce_artifact(artifact, tmp_path / "zoo" / "tiny", streams, precisions)


def test_without_a_held_out_part_nothing_can_be_measured(artifact, streams):
    stream = streams[0]
    split = dataclasses.replace(stream.split, test=Part(start=len(stream.labels), stop=len(stream.labels)))
    with pytest.raises(InputError, match="no row of the test parts of spot-btcusdt can be scored in int8"):
        measure_costs(artifact, [dataclasses.replace(stream, split=split)], ["int8"])
