"""The stages with a model in them: every sample is a call of a warm model on the frames' own rows."""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice

import msgspec
import numpy as np
import pytest

from bench.frame_source import FrameSource, seeded_source
from bench.stages import EncodeStage, EngineStage, OnFrameStage, available_engines, make_stages
from inference.artifact import Artifact
from inference.engines.selection import choose_engine, create_engine
from lob.errors import InputError
from lob.rows import RowPath
from lob.sync import SymbolState
from lob.venues import make_decoder

SAMPLES = 30
ENGINES = ("fused", "ort-step", "ort-window")


def rows_to_first_answer(engine: str, artifact: Artifact) -> int:
    manifest = artifact.manifest
    return manifest.window_length if engine == "ort-window" else manifest.warmup_rows


@pytest.mark.parametrize("engine", ENGINES)
def test_the_engine_has_answered_the_rows_of_the_frames(nano_artifact: Artifact, engine: str) -> None:
    stage = EngineStage(seeded_source(5), nano_artifact, engine, "a label")
    durations_ns = np.full(SAMPLES, -1, dtype=np.int64)
    stage.measure(durations_ns)
    assert durations_ns.min() > 0
    assert (stage.name, stage.model, stage.precision) == (engine, "a label", "float32")

    source = seeded_source(5)
    path = RowPath(make_decoder(source.venue), source.instrument)
    alone = create_engine(engine, nano_artifact, path.window)
    for receive_ns, frame in islice(
        source.passes(), rows_to_first_answer(engine, nano_artifact) - 1 + SAMPLES
    ):
        path.on_frame(frame, receive_ns)
        alone.push(path.window.latest())
    assert stage._path.update_id == path.update_id
    assert stage._path.window.latest().tobytes() == path.window.latest().tobytes()
    expected, came = alone.push(path.window.latest()), stage._engine.push(stage._path.window.latest())
    assert expected is not None
    assert came is not None
    assert came.tobytes() == expected.tobytes()  # the same state before the same row


@pytest.mark.parametrize("stage_class", [OnFrameStage, EncodeStage])
def test_a_tick_is_a_prediction(
    nano_artifact: Artifact, stage_class: type[OnFrameStage] | type[EncodeStage]
) -> None:
    stage = stage_class(seeded_source(5), nano_artifact, "auto", "a label")
    durations_ns = np.full(SAMPLES, -1, dtype=np.int64)
    stage.measure(durations_ns)
    assert durations_ns.min() > 0
    assert stage.pipeline.state is SymbolState.LIVE
    assert stage.pipeline.counters["predictions"] == SAMPLES
    assert stage.pipeline.engine.name == choose_engine("auto", nano_artifact)


@pytest.mark.parametrize("name", [*ENGINES, "on_frame", "on_frame-staged", "encode"])
def test_a_capture_that_ends_starts_again_with_a_cold_model(
    nano_artifact: Artifact, name: str, make_short_source: Callable[[int], FrameSource]
) -> None:
    (stage,) = (
        stage for stage in make_stages(make_short_source(110), nano_artifact, "a label") if stage.name == name
    )
    durations_ns = np.full(100, -1, dtype=np.int64)
    stage.measure(durations_ns)
    assert durations_ns.min() > 0
    if isinstance(stage, OnFrameStage | EncodeStage):
        answered = 110 - nano_artifact.manifest.warmup_rows + 1  # predictions of a whole pass
        assert stage.pipeline.counters["snapshot"] == -(-100 // answered)


def test_frames_too_few_to_warm_a_model_are_refused(
    nano_artifact: Artifact, make_short_source: Callable[[int], FrameSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.stages.FRUITLESS_FRAMES", 500)
    stage = EngineStage(make_short_source(99), nano_artifact, "ort-window", "a label")
    with pytest.raises(InputError, match=r"ort-window: none of 5\d\d frames of a short capture"):
        stage.measure(np.zeros(1, dtype=np.int64))


def test_stages_stand_in_the_order_of_a_tick(nano_artifact: Artifact) -> None:
    stages = make_stages(seeded_source(0), nano_artifact, "a label")
    assert [stage.name for stage in stages] == [
        "decode",
        "book",
        "features",
        *ENGINES,
        "on_frame",
        "on_frame-staged",
        "encode",
    ]
    assert [stage.pipeline.rows.scans for stage in stages if isinstance(stage, OnFrameStage)] == [True, False]
    assert all(stage.method and stage.precision for stage in stages)


def test_engines_without_a_graph_are_left_out(nano_artifact: Artifact) -> None:
    assert available_engines(nano_artifact) == list(ENGINES)
    step = nano_artifact.manifest.graphs["step"]
    manifest = msgspec.structs.replace(nano_artifact.manifest, graphs={"step": step}, reduced_graphs={})
    without_window = replace(nano_artifact, manifest=manifest)
    assert available_engines(without_window) == ["fused", "ort-step"]
