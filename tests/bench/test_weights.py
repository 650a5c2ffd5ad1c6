"""Which model is timed, and what it is called."""

import sys
from pathlib import Path

import pytest

from bench import weights
from bench.weights import shipped_artifact, weights_to_time
from inference.artifact import Artifact, load_artifact
from lob.errors import ArtifactError, InputError


@pytest.fixture
def _nothing_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "shipped_models", lambda: tmp_path)


def test_a_named_model(nano_artifact: Artifact) -> None:
    with weights_to_time(str(nano_artifact.directory), size="base", block="s6", seed=0) as found:
        assert found.artifact.manifest == nano_artifact.manifest
        assert found.label == "nano-ssd-random"
    with (
        pytest.raises(ArtifactError, match="no-such-model"),
        weights_to_time("no-such-model", size="base", block="s6", seed=0),
    ):
        pass


def test_a_shipped_model_comes_before_a_random_one(
    nano_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "shipped_models", lambda: nano_artifact.directory.parent)
    with weights_to_time(None, size="nano", block="ssd", seed=0) as found:
        assert found.artifact.directory == nano_artifact.directory
        assert found.label == nano_artifact.name
    assert shipped_artifact("nano", "s6") is None
    assert shipped_artifact("small", "ssd") is None


@pytest.mark.usefixtures("_nothing_ships")
def test_random_weights_are_said_to_be_random_and_leave_nothing_behind(
    capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("torch", reason="the training extra is not installed")
    with weights_to_time(None, size="nano", block="s6", seed=3) as found:
        assert found.label == "nano-s6, random weights"
        architecture = found.artifact.manifest.architecture
        assert (architecture.size, architecture.block) == ("nano", "s6")
        assert load_artifact(found.artifact.directory).manifest == found.artifact.manifest
        assert found.artifact.manifest.training.details["weights"] == "random"
    assert not found.artifact.directory.parent.exists()
    assert capfd.readouterr().out == ""  # standard output is the report's alone


@pytest.mark.usefixtures("_nothing_ships")
def test_random_weights_without_the_training_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "bench.random_model", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with (
        pytest.raises(InputError, match=r"needs torch.*--model.*'\.\[train\]'"),
        weights_to_time(None, size="nano", block="ssd", seed=0),
    ):
        pass
