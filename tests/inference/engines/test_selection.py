"""Choosing an engine: `auto` serves the context a model was trained in."""

from pathlib import Path
from typing import Any

import pytest

from inference.artifact import Artifact, write_artifact
from inference.engines.ort_step import OrtStepEngine
from inference.engines.ort_window import OrtWindowEngine
from inference.engines.selection import choose_engine, create_engine
from lob.errors import ArtifactError, InputError
from lob.window import RingWindow


@pytest.mark.parametrize(
    ("name", "of_stream", "of_window"),
    [
        ("auto", OrtStepEngine, OrtWindowEngine),
        ("ort-step", OrtStepEngine, OrtStepEngine),
        ("ort-window", OrtWindowEngine, OrtWindowEngine),
    ],
)
def test_makes_the_engine_asked_for(
    artifact: Artifact, window_artifact: Artifact, name: str, of_stream: type, of_window: type
) -> None:
    for model, kind in ((artifact, of_stream), (window_artifact, of_window)):
        engine = create_engine(name, model, RingWindow(20, 44))
        assert type(engine) is kind
        assert engine.name == engine.describe()["engine"] == choose_engine(name, model)


@pytest.mark.parametrize("name", ["torch", "", "AUTO"])
def test_an_unknown_engine_is_refused(artifact: Artifact, name: str) -> None:
    with pytest.raises(InputError, match=f"engine: '{name}' came; allowed: auto, ort-step, ort-window"):
        create_engine(name, artifact, RingWindow(20, 44))


def test_fused_is_reserved(artifact: Artifact) -> None:
    with pytest.raises(InputError, match="'fused' is not part of this version"):
        create_engine("fused", artifact, RingWindow(20, 44))


def test_an_engine_whose_graph_is_missing_is_refused(exported: Any, tmp_path: Path) -> None:
    step = {"step": exported.graphs["step"]}
    artifact = write_artifact(tmp_path / "step-only", exported.manifest, step, card="")
    with pytest.raises(ArtifactError, match=r"'ort-window' came, .* has no window graph; allowed: ort-step"):
        create_engine("ort-window", artifact, RingWindow(20, 44))
