"""Choosing an engine: `auto` serves the context a model was trained in, with the fastest that suits it."""

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest
from numba.core import config

from inference.artifact import Artifact, write_artifact
from inference.engines.fused import FusedEngine
from inference.engines.ort_step import OrtStepEngine
from inference.engines.ort_window import OrtWindowEngine
from inference.engines.selection import choose_engine, create_engine, fused_refusal
from inference.manifest import GraphKind
from lob.errors import ArtifactError, InputError
from lob.window import RingWindow

FASTEST = OrtStepEngine if config.DISABLE_JIT else FusedEngine


@pytest.mark.parametrize(
    ("name", "of_stream", "of_window"),
    [
        ("auto", FASTEST, OrtWindowEngine),
        ("fused", FusedEngine, FusedEngine),
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
    allowed = "auto, fused, ort-step, ort-window"
    with pytest.raises(InputError, match=f"engine: '{name}' came; allowed: {allowed}"):
        create_engine(name, artifact, RingWindow(20, 44))


def test_an_engine_whose_graph_is_missing_is_refused(exported: Any, tmp_path: Path) -> None:
    step: dict[GraphKind, bytes] = {"step": exported.graphs["step"]}
    artifact = write_artifact(tmp_path / "step-only", exported.manifest, step, card="")
    with pytest.raises(
        ArtifactError, match=r"'ort-window' came, .* has no window graph; allowed: fused, ort-step"
    ):
        create_engine("ort-window", artifact, RingWindow(20, 44))


def test_a_precision_that_the_engine_has_not_is_refused(artifact: Artifact) -> None:
    allowed = "fused float32, bfloat16, int16, int8; ort-step float32; ort-window float32"
    for name, precision in (("ort-step", "int8"), ("ort-window", "bfloat16"), ("fused", "float16")):
        with pytest.raises(
            InputError,
            match=f"'{precision}' came \\(with engine {name}\\); model tiny allows: {allowed}",
        ):
            create_engine(name, artifact, RingWindow(20, 44), precision=precision)
    with pytest.raises(InputError, match=r"'float16' came .for its context, stream.; model"):
        create_engine("auto", artifact, RingWindow(20, 44), precision="float16")
    every = "float32, bfloat16, int16, int8, float16"
    for name in ("auto", "fused", "ort-step"):
        with pytest.raises(InputError, match=f"precision: 'float8' came; allowed: {every}"):
            create_engine(name, artifact, RingWindow(20, 44), precision="float8")


@pytest.mark.parametrize("name", ["auto", "fused", "ort-step", "ort-window"])
def test_the_precision_asked_for_is_what_answers(reduced_artifact: Artifact, name: str) -> None:
    engine = create_engine(name, reduced_artifact, RingWindow(20, 44), precision="int8")
    assert engine.describe()["precision"] == "int8"


@pytest.mark.skipif(config.DISABLE_JIT, reason="auto leaves fused out: NUMBA_DISABLE_JIT is set")
def test_auto_takes_the_engine_that_has_the_precision(reduced_artifact: Artifact) -> None:
    assert choose_engine("auto", reduced_artifact, "bfloat16") == "fused"
    assert choose_engine("auto", reduced_artifact, "float16") == "ort-step"
    engine = create_engine("auto", reduced_artifact, RingWindow(20, 44), precision="float16")
    assert "fused_refused" not in engine.describe()  # it has no such format to begin with


class TestWhereFusedDoesNotSuit:
    @pytest.fixture
    def old_processor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("inference.fused.processor.features", lambda: frozenset({"sse2", "fma"}))
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
        monkeypatch.setattr(config, "DISABLE_JIT", 0)

    def test_auto_takes_ort_step_and_says_why(self, artifact: Artifact, old_processor: None) -> None:
        engine = create_engine("auto", artifact, RingWindow(20, 44))
        assert engine.name == choose_engine("auto", artifact) == "ort-step"
        assert "without avx2 came; AVX2 and FMA are needed" in str(engine.describe()["fused_refused"])

    def test_asked_for_by_name_it_is_refused(self, artifact: Artifact, old_processor: None) -> None:
        for ask in (lambda: choose_engine("fused", artifact), lambda: FusedEngine(artifact)):
            with pytest.raises(ArtifactError, match=r"engine fused: processor: .* without avx2 came"):
                ask()

    def test_ort_step_by_name_has_no_reason_to_give(self, artifact: Artifact) -> None:
        assert "fused_refused" not in create_engine("ort-step", artifact, RingWindow(20, 44)).describe()

    def test_without_the_jit_auto_leaves_it_out(
        self, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(config, "DISABLE_JIT", 1)
        assert choose_engine("auto", artifact) == "ort-step"
        assert "NUMBA_DISABLE_JIT is set" in fused_refusal(artifact)

    @pytest.mark.skipif(config.DISABLE_JIT, reason="auto leaves it out: NUMBA_DISABLE_JIT is set")
    def test_a_probe_that_fails_is_a_reason_too(
        self, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(FusedEngine.__init__.__globals__["TOLERANCES"], "float32", -1.0)
        engine = create_engine("auto", artifact, RingWindow(20, 44))
        assert engine.name == "ort-step"
        assert "logits differ from ort-step by" in str(engine.describe()["fused_refused"])
        with pytest.raises(ArtifactError, match="logits differ from ort-step by"):
            create_engine("fused", artifact, RingWindow(20, 44))

    def test_auto_never_answers_in_another_precision(
        self, artifact: Artifact, reduced_artifact: Artifact, old_processor: None
    ) -> None:
        with pytest.raises(InputError, match=r"'int8' came \(engine fused: processor: .* without avx2"):
            create_engine("auto", artifact, RingWindow(20, 44), precision="int8")
        engine = create_engine("auto", reduced_artifact, RingWindow(20, 44), precision="int8")
        assert (engine.name, engine.describe()["precision"]) == ("ort-step", "int8")

    def test_nor_where_the_probe_fails(self, artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(config, "DISABLE_JIT", 0)
        monkeypatch.setitem(FusedEngine.__init__.__globals__["TOLERANCES"], "int16", -1.0)
        with pytest.raises(ArtifactError, match="in int16: logits differ from ort-step by"):
            create_engine("auto", artifact, RingWindow(20, 44), precision="int16")

    def test_an_artifact_without_a_step_graph(self, window_artifact: Artifact) -> None:
        graphs = {"window": window_artifact.manifest.graphs["window"]}
        alone = dataclasses.replace(
            window_artifact, manifest=msgspec.structs.replace(window_artifact.manifest, graphs=graphs)
        )
        assert choose_engine("auto", alone) == "ort-window"
        with pytest.raises(ArtifactError, match=r"'fused' came, .* has no step graph; allowed: ort-window"):
            create_engine("fused", alone, RingWindow(20, 44))
