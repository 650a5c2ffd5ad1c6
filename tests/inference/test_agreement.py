"""All engines on the same frames: what agrees is said to agree, and what does not is found."""

from pathlib import Path
from typing import Any

import pytest
import torch
from numba.core import config

from inference import agreement
from inference.agreement import Agreement, AgreementReport, compare_engines
from inference.artifact import Artifact, write_artifact
from inference.graph_interface import graph_metadata
from inference.manifest import GraphKind
from inference.pipeline import Pipeline
from inference.precision import TOLERANCES
from lob.captures import CapturedFrame
from lob.errors import ArtifactError, InputError
from lob.instrument import Instrument
from lob.market import SimulatedMarket
from models.mamba_lob import MambaLOB
from training.graph import graph_bytes

MARKET = SimulatedMarket()
FRAMES = list(MARKET.frames(120))
INSTRUMENT: Instrument = MARKET.configuration.instrument


def compared(artifact: Artifact, **options: Any) -> AgreementReport:
    frames: list[CapturedFrame] = FRAMES
    return compare_engines(artifact, INSTRUMENT, frames, **options)


def by_name(report: AgreementReport) -> dict[str, Agreement]:
    return {
        f"{each.engine} {each.precision}{' one call' * each.one_call}": each for each in report.agreements
    }


@pytest.mark.skipif(config.DISABLE_JIT, reason="NUMBA_DISABLE_JIT is set: four formats would take minutes")
def test_every_engine_and_format_agrees(reduced_artifact: Artifact) -> None:
    report = compared(reduced_artifact)
    found = by_name(report)
    assert list(found) == [
        *(
            f"fused {each}{way}"
            for each in ("float32", "bfloat16", "int16", "int8")
            for way in ("", " one call")
        ),
        *(f"ort-step {each}" for each in ("float32", "float16", "int8")),
        *(f"ort-window {each}" for each in ("float32", "float16", "int8")),
    ]
    assert report.agrees
    assert report.frames == len(FRAMES)
    for name, each in found.items():
        assert each.agrees
        assert each.rows >= report.rows - (15 if name.startswith("ort-window") else 0) > 80
        assert each.directions == 3 * each.rows
        assert each.largest_difference <= each.tolerance == TOLERANCES[each.precision]
        if each.precision != "float32":
            assert each.largest_difference > 1e-7  # another format, other numbers: they were compared
            assert 0 < each.largest_probability_difference < 0.5
    assert found["fused float32"].largest_difference > 0


def test_another_models_window_graph_is_found(
    exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its manifest, checksums and metadata fit; its answers do not."""
    torch.manual_seed(8)
    other = graph_bytes(MambaLOB(exported.model.config).eval(), 20, graph_metadata(exported.manifest))
    graphs: dict[GraphKind, bytes] = {"step": exported.graphs["step"], "window": other["window"]}
    with pytest.raises(ArtifactError, match=r"window.onnx: its answers differ by"):
        write_artifact(tmp_path / "tiny", exported.manifest, graphs, card="")
    monkeypatch.setattr("inference.recorded_answers.TOLERANCES", {"float32": 100.0})
    artifact = write_artifact(tmp_path / "tiny", exported.manifest, graphs, card="")
    report = compared(artifact, engines=["ort-step", "ort-window"])
    assert not report.agrees
    assert [each.agrees for each in report.agreements] == [True, False]
    assert by_name(report)["ort-window float32"].largest_difference > 1e-3


def test_beyond_its_tolerance_an_engine_does_not_agree(
    reduced_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOLERANCES, "int8", 1e-6)
    report = compared(reduced_artifact, engines=["ort-step"], precisions=["int8", "float32"])
    assert {name: each.agrees for name, each in by_name(report).items()} == {
        "ort-step float32": True,
        "ort-step int8": False,
    }


@pytest.mark.skipif(
    config.DISABLE_JIT, reason="NUMBA_DISABLE_JIT is set: the fused engine would take minutes"
)
def test_a_one_call_that_gives_other_bits_than_its_stages_is_found(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crossed(Pipeline):
        @classmethod
        def create(cls, *arguments: Any, **options: Any) -> Pipeline:
            if options["engine"] == "fused" and not options["staged"]:
                options["precision"] = "bfloat16"
            return Pipeline.create(*arguments, **options)

    monkeypatch.setattr(agreement, "Pipeline", Crossed)
    report = compared(artifact, engines=["fused"], precisions=["float32"])
    staged, one_call = report.agreements
    assert staged.agrees
    assert one_call.unequal_rows > 80
    assert not report.agrees


def test_what_cannot_be_made_is_named_and_is_no_agreement(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.fused.processor.features", lambda: frozenset({"sse2"}))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    report = compared(artifact, engines=["fused", "ort-step"], precisions=["float32"])
    assert "without avx2, fma came" in report.refused["fused float32"]
    assert not report.agrees
    with pytest.raises(InputError, match="nothing to compare with model tiny fused float32: engine fused"):
        compared(artifact, engines=["fused"], precisions=["float32"])


def test_the_window_is_compared_as_often_as_asked(artifact: Artifact) -> None:
    every, fifth = (
        compared(artifact, engines=["ort-window"], window_every=number).agreements[0].rows
        for number in (1, 5)
    )
    assert fifth == every // 5
    with pytest.raises(InputError, match="window_every: 0 came; allowed: 1 or more"):
        compared(artifact, window_every=0)
