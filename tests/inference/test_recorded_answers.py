"""A weight altered together with its checksum is refused wherever a graph is opened: by every engine."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from inference.artifact import Artifact, load_artifact, verify_artifact, write_artifact
from inference.engines.selection import create_engine
from inference.manifest import GraphKind
from inference.recorded_answers import made_up_rows
from lob.errors import ArtifactError
from lob.window import RingWindow

SIGN, EXPONENT, HIGH_FRACTION = 31, 24, 22
"""Bits of a float32: the sign, one that makes a number four times as large or small, the fraction's first."""

BIG = ("embedding.weight", "layers.0.block.in_proj.weight", "layers.0.block.out_proj.weight", "head.weight")


def flipped(source: Artifact, directory: Path, kind: GraphKind, name: str, at: float, bit: int) -> Path:
    """A copy in which one bit of one weight is another, and the manifest's checksum that of the altered file.

    `at`: where in the tensor, from 0 to 1; the first number from there on that is not zero. Of a matrix that
    the window's last layer has in two, the part for all rows.
    """
    shutil.copytree(source.directory, directory)
    path = directory / f"{kind}.onnx"
    model = onnx.load_from_string(path.read_bytes())
    tensor = [each for each in model.graph.initializer if each.name.startswith(name)][-1]
    values = numpy_helper.to_array(tensor).copy()
    place = int(at * (values.size - 1))
    place += int(np.flatnonzero(values.flat[place:])[0])
    values.view(np.uint32).flat[place] ^= np.uint32(1 << bit)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    path.write_bytes(model.SerializeToString())
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["graphs"][kind]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return directory


@pytest.mark.parametrize("bit", [SIGN, EXPONENT, HIGH_FRACTION])
@pytest.mark.parametrize("at", [0.0, 0.37, 1.0])
@pytest.mark.parametrize("name", BIG)
def test_one_bit_of_a_weight_is_refused_by_each_engine(
    artifact: Artifact, tmp_path: Path, name: str, at: float, bit: int
) -> None:
    altered = load_artifact(flipped(artifact, tmp_path / "a", "step", name, at, bit))  # its checksums fit
    said = r"step.onnx: its answers differ by \S+ from those recorded in the manifest"
    for engine in ("ort-step", "fused", "auto"):
        with pytest.raises(ArtifactError, match=said):
            create_engine(engine, altered, RingWindow(20, 44))
    with pytest.raises(ArtifactError, match=said):
        verify_artifact(altered)
    shutil.rmtree(tmp_path / "a")
    altered = load_artifact(flipped(artifact, tmp_path / "a", "window", name, at, bit))
    with pytest.raises(ArtifactError, match=r"window.onnx: its answers differ by"):
        create_engine("ort-window", altered, RingWindow(20, 44))


def test_a_reduced_graph_is_held_to_its_formats_tolerance(reduced_artifact: Artifact, tmp_path: Path) -> None:
    for engine in ("ort-step", "ort-window"):
        for precision in ("float16", "int8"):
            create_engine(engine, reduced_artifact, RingWindow(20, 44), precision=precision)
    directory = tmp_path / "a"
    shutil.copytree(reduced_artifact.directory, directory)
    path = directory / "step.int8.onnx"
    model = onnx.load_from_string(path.read_bytes())
    (tensor,) = (each for each in model.graph.initializer if each.name == "linear_bias")
    values = numpy_helper.to_array(tensor).copy()
    values.flat[4] += 2.0
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    path.write_bytes(model.SerializeToString())
    manifest = json.loads((directory / "manifest.json").read_text())
    (entry,) = (each for each in manifest["reduced_graphs"]["step"] if each["precision"] == "int8")
    entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (directory / "manifest.json").write_text(json.dumps(manifest))
    altered = load_artifact(directory)
    create_engine("ort-step", altered, RingWindow(20, 44))
    with pytest.raises(
        ArtifactError, match=r"step.int8.onnx: its answers differ by .* at most 0.3 is allowed"
    ):
        create_engine("ort-step", altered, RingWindow(20, 44), precision="int8")


def test_answers_are_recorded_by_whoever_writes_and_kept_when_written_again(
    artifact: Artifact, exported: Any, tmp_path: Path
) -> None:
    recorded = artifact.manifest.recorded_answers
    assert recorded is not None
    assert recorded.rows == (8, 16, 20)
    assert np.array(recorded.logits).shape == (3, 3, 3)
    rows = made_up_rows(recorded, 20)
    assert rows.shape == (20, 44)
    assert len(np.unique(rows.round(3), axis=0)) == 20
    engine = create_engine("ort-step", artifact, RingWindow(20, 44))
    pushed = [None if answer is None else answer.copy() for answer in map(engine.push, rows)]
    np.testing.assert_allclose(pushed[19], recorded.logits[2], atol=1e-6)
    again = write_artifact(tmp_path / "a", artifact.manifest, exported.graphs, card="")
    assert again.manifest.recorded_answers == recorded


def test_another_models_graphs_are_not_written_under_its_answers(
    artifact: Artifact, exported: Any, tmp_path: Path
) -> None:
    altered = flipped(artifact, tmp_path / "a", "step", "head.weight", 0.5, SIGN)
    graphs = {**exported.graphs, "step": (altered / "step.onnx").read_bytes()}
    with pytest.raises(ArtifactError, match="its answers differ by"):
        write_artifact(tmp_path / "b", artifact.manifest, graphs, card="")
    assert not (tmp_path / "b").exists()


def test_a_model_without_recorded_answers_opens(artifact: Artifact, tmp_path: Path) -> None:
    shutil.copytree(artifact.directory, tmp_path / "a")
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    del manifest["recorded_answers"]
    (tmp_path / "a" / "manifest.json").write_text(json.dumps(manifest))
    create_engine("ort-step", load_artifact(tmp_path / "a"), RingWindow(20, 44))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("mean", [0.0], r"recorded_answers: 1 means and 44 scales came, 44 of each are allowed"),
        ("rows", [8, 16], r"recorded_answers: rows \[8, 16\] and 3 logits came, each row once"),
        ("rows", [8, 8, 20], r"recorded_answers: rows \[8, 8, 20\] and 3 logits came, each row once"),
        ("logits", [[[1.0]], [[1.0]], [[1.0]]], r"after 8 rows \(\(1.0,\),\) came, numbers of the shape"),
        ("rows", [8, 16, 21], r"recorded_answers.rows: \[8, 16, 21\] came, this program needs \[8, 16, 20\]"),
    ],
)
def test_answers_that_do_not_fit_are_refused(
    artifact: Artifact, tmp_path: Path, field: str, value: list[float], said: str
) -> None:
    shutil.copytree(artifact.directory, tmp_path / "a")
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    manifest["recorded_answers"][field] = value
    (tmp_path / "a" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=said):
        verify_artifact(load_artifact(tmp_path / "a"))
