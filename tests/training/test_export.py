import json
import re

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import numpy_helper

import training.export
from inference.artifact import load_artifact
from inference.engines.selection import create_engine
from inference.graph_interface import graph_metadata
from inference.manifest import GraphFile, Manifest
from lob.errors import ArtifactError, InputError, MambalobError
from lob.window import RingWindow
from models.mamba_lob import MambaLOB
from training.commands.export import command
from training.dataset import write_dataset
from training.export import export_artifact
from training.trained_model import load_trained

Trained = tuple[MambaLOB, Manifest]


@pytest.fixture
def trained(finished_run) -> Trained:
    """A trained model and its manifest."""
    return load_trained(finished_run, seed=1, name="tiny", version="1")


@pytest.fixture
def quick_graphs(monkeypatch, trained: Trained, model_graphs):
    """The graphs that this model's export would trace, as traced before, for tests of what comes after."""
    graphs = dict(model_graphs("ssd", "nano"))
    for kind, graph in graphs.items():
        parsed = onnx.load_from_string(graph)
        del parsed.metadata_props[:]
        onnx.helper.set_model_props(parsed, graph_metadata(trained[1]))
        graphs[kind] = parsed.SerializeToString()
    monkeypatch.setattr(training.export, "graph_bytes", lambda model, window_length, metadata: graphs)
    return graphs


def test_an_artifact_serves_what_the_model_answers(trained: Trained, spot_dataset, tmp_path):
    model, manifest = trained
    rows = spot_dataset.rows[-400:]
    export = export_artifact(model, manifest, tmp_path / "zoo" / "tiny", rows)
    artifact = load_artifact(tmp_path / "zoo" / "tiny")
    assert artifact.manifest == export.artifact.manifest
    assert artifact.manifest.training.details["parity"]["step"] == export.parity.step <= 1e-5
    assert isinstance(artifact.manifest.graphs["window"], GraphFile)
    card = artifact.card()
    assert card.startswith("# tiny 1\n")
    assert "9,578 parameters" in card
    assert "spot_btcusdt_20240808.gz" in card
    assert "No evaluation on a held-out part" in card
    expected = model(torch.from_numpy(rows[None, :150]))[0].detach().numpy()
    ring = RingWindow(manifest.window_length, 44)
    step = create_engine("ort-step", artifact, ring)
    for t in range(150):
        ring.append(rows[t])
        logits = step.push(ring.latest())
        if t + 1 >= manifest.warmup_rows:
            np.testing.assert_allclose(logits, expected[t], atol=1e-5)
        else:
            assert logits is None


@pytest.mark.parametrize("kind", ["step", "window"])
def test_a_broken_weight_leaves_nothing_on_the_disk(
    trained: Trained, quick_graphs, spot_dataset, tmp_path, kind
):
    broken = onnx.load_from_string(quick_graphs[kind])
    name = "layers.0.block.in_proj.weight" + (".slice.1" if kind == "window" else "")
    (tensor,) = [each for each in broken.graph.initializer if each.name == name]
    values = numpy_helper.to_array(tensor).copy()
    values[3, 40] += 0.5
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    quick_graphs[kind] = broken.SerializeToString()
    with pytest.raises(ArtifactError, match=r"logits differ .*nothing is written"):
        export_artifact(*trained, tmp_path / "tiny", spot_dataset.rows)
    assert list(tmp_path.iterdir()) == []


def test_swapped_graphs_leave_nothing_on_the_disk(trained: Trained, quick_graphs, spot_dataset, tmp_path):
    quick_graphs["step"], quick_graphs["window"] = quick_graphs["window"], quick_graphs["step"]
    with pytest.raises(ArtifactError, match="does not take what its model takes"):
        export_artifact(*trained, tmp_path / "tiny", spot_dataset.rows)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_weight_leaves_the_artifact_that_was_there(
    trained: Trained, quick_graphs, spot_dataset, tmp_path
):
    export_artifact(*trained, tmp_path / "tiny", spot_dataset.rows)
    before = {path.name: path.read_bytes() for path in (tmp_path / "tiny").iterdir()}
    quick_graphs["step"] = quick_graphs["step"].replace(b"QuickGelu", b"ScaledSiL")
    with pytest.raises(ArtifactError, match=r"onnxruntime \S+ refuses it"):
        export_artifact(*trained, tmp_path / "tiny", spot_dataset.rows, replace=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "tiny").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_an_artifact_is_replaced_only_when_asked(trained: Trained, quick_graphs, spot_dataset, tmp_path):
    export_artifact(*trained, tmp_path / "tiny", spot_dataset.rows)
    with pytest.raises(ArtifactError, match="exists already"):
        export_artifact(*trained, tmp_path / "tiny", spot_dataset.rows)
    export = export_artifact(*trained, tmp_path / "tiny", spot_dataset.rows, card="# Mine\n", replace=True)
    assert export.artifact.card() == "# Mine\n"


def test_too_few_rows_are_refused(trained: Trained, quick_graphs, spot_dataset, tmp_path):
    with pytest.raises(InputError, match="50 rows came; the parity gate needs at least 100"):
        export_artifact(*trained, tmp_path / "tiny", spot_dataset.rows[:50])
    assert list(tmp_path.iterdir()) == []


def run_command(*arguments):
    return CliRunner().invoke(command, [str(each) for each in arguments], catch_exceptions=False)


def test_the_command(finished_run, spot_dataset, tmp_path, quick_graphs):
    write_dataset(tmp_path / "data", spot_dataset)
    asked = ["--run", finished_run, "--data", tmp_path / "data", "--out", tmp_path / "zoo", "--name", "tiny"]
    result = run_command(*asked, "--seed", 1, "--explain")
    assert result.exit_code == 0
    assert "tiny 1, 9,578 parameters" in result.output
    assert "step graph from PyTorch: " in result.output
    assert re.search(r"a call of step\.onnx takes [\d.]+ us:\n", result.output)
    assert re.search(r"     1 +-?\d+\.\d\d us  LinearAttention\n", result.output)
    result = run_command(*asked, "--seed", 1, "--json", "--replace")
    report = json.loads(result.output)
    artifact = load_artifact(tmp_path / "zoo" / "tiny")
    assert report["graphs"]["step"]["sha256"] == artifact.manifest.graphs["step"].sha256
    assert report["graphs"]["step"]["nodes"] == sum(report["graphs"]["step"]["operators"].values())
    assert max(report["parity"]["differences"].values()) <= report["parity"]["tolerance"] == 1e-5


def test_the_command_says_what_does_not_fit(tmp_path, finished_run, spot_captures):
    asked = ["--run", finished_run, "--data", spot_captures[0], "--out", tmp_path / "zoo"]
    with pytest.raises(MambalobError, match=r"name: .*'\.\./other' came"):
        run_command(*asked, "--name", "../other")
    (tmp_path / "card").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(MambalobError, match=r"--card: .*a text file in UTF-8 is allowed"):
        run_command(*asked, "--card", tmp_path / "card")
    with pytest.raises(MambalobError, match=r"run\.json: No such file"):
        run_command("--run", tmp_path, "--data", tmp_path, "--out", tmp_path / "zoo")
    with pytest.raises(MambalobError, match="a data set's folder or a capture file is allowed"):
        run_command("--run", finished_run, "--data", tmp_path, "--out", tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()
