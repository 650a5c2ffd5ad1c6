"""A rehearsal takes whole ticks, and leaves no trace in the pipeline whose model it runs."""

import pytest

from inference import rehearsal
from inference.pipeline import Pipeline
from inference.rehearsal import Rehearsal, warm_up, warm_up_rows
from lob.errors import ArtifactError
from lob.market import SimulatedMarket
from lob.row_status import RowStatus
from lob.rows import RowPath
from lob.sync import SymbolState

INSTRUMENT = SimulatedMarket().configuration.instrument
FRAMES = [frame for _, frame in SimulatedMarket().frames(300)]
ENGINES = ["fused", "ort-step", "ort-window"]


def make(artifact, engine: str) -> Pipeline:
    return Pipeline.create(artifact, INSTRUMENT, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_warming_up_leaves_no_trace(artifact, engine: str) -> None:
    pipeline, fresh = make(artifact, engine), make(artifact, engine)
    warm_up(pipeline)
    assert set(pipeline.counters.values()) == {0}
    assert pipeline.state is SymbolState.CONNECTING
    assert pipeline.rows.window.count == 0
    assert not pipeline.rows.window.storage.any()
    for both in (pipeline, fresh):
        both.on_connected()
    for number, frame in enumerate(FRAMES):
        assert pipeline.on_frame(frame, number) == fresh.on_frame(frame, number)
    assert pipeline.counters["predictions"] > 100


@pytest.mark.parametrize("engine", ENGINES)
def test_steps_between_frames_change_no_bit(artifact, engine: str) -> None:
    pipeline, alone = make(artifact, engine), make(artifact, engine)
    rehearsed = Rehearsal(pipeline)
    for both in (pipeline, alone):
        both.on_connected()
    for number, frame in enumerate(FRAMES):
        stepped = [rehearsed.step() for _ in range(number % 4)]
        assert pipeline.on_frame(frame, number) == alone.on_frame(frame, number)
    assert all(stepped)
    assert pipeline.counters == alone.counters
    assert pipeline.counters["predictions"] > 100
    assert (pipeline.rows.window.storage == alone.rows.window.storage).all()


def test_every_step_is_a_whole_tick_once_the_model_is_warm(artifact) -> None:
    rehearsed = Rehearsal(make(artifact, "ort-step"))
    steps = [rehearsed.step() for _ in range(500)]
    first = steps.index(True)
    assert all(steps[first:])
    assert first <= artifact.manifest.warmup_rows
    assert rehearsed.pipeline.counters["row"] == 499


def test_a_model_that_does_not_answer_is_refused(artifact, monkeypatch) -> None:
    monkeypatch.setattr(rehearsal, "MAXIMUM_FRAMES", 8)
    with pytest.raises(ArtifactError, match=r"model tiny: \d predictions came of 8 made-up frames .* 64 are"):
        warm_up(make(artifact, "ort-step"))


def test_rows_are_warmed_up_without_a_model(monkeypatch) -> None:
    statuses = []

    class Watched(RowPath):
        def on_frame(self, frame: bytes, receive_ns: int, *, go_on: bool = True) -> RowStatus:
            statuses.append(super().on_frame(frame, receive_ns, go_on=go_on))
            return statuses[-1]

    monkeypatch.setattr(rehearsal, "RowPath", Watched)
    warm_up_rows()
    assert statuses == [RowStatus.SNAPSHOT] + [RowStatus.ROW] * 7
