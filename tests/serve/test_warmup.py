import pytest

from inference.pipeline import Pipeline
from inference.registry import load_model
from lob.errors import ArtifactError
from lob.instrument import Instrument
from lob.sync import SymbolState
from serve import warmup
from serve.warmup import PREDICTIONS, warm_up, warm_up_rows


@pytest.fixture
def artifact(models_dir):
    return load_model("tiny", models_dir)


@pytest.mark.parametrize("engine", ["ort-step", "ort-window"])
def test_the_warm_up_leaves_no_trace_in_the_pipeline(artifact, market_frames, engine) -> None:
    instrument = Instrument(symbol="BTCUSDT", tick_size="0.10")
    pipeline, fresh = (Pipeline.create(artifact, instrument, engine=engine) for _ in range(2))
    assert warm_up(pipeline, artifact) == PREDICTIONS
    assert set(pipeline.counters.values()) == {0}
    assert pipeline.state is SymbolState.CONNECTING
    assert pipeline.rows.window.count == 0
    assert not pipeline.rows.window.storage.any()
    for both in (pipeline, fresh):
        both.on_connected()
    for frame in market_frames:
        assert pipeline.on_frame(frame, 1) == fresh.on_frame(frame, 1)
    assert pipeline.counters["predictions"] > 100


def test_a_model_that_does_not_answer_is_refused(artifact, monkeypatch) -> None:
    monkeypatch.setattr(warmup, "MAXIMUM_FRAMES", 8)
    pipeline = Pipeline.create(artifact, Instrument(symbol="BTCUSDT", tick_size="0.10"), engine="ort-step")
    with pytest.raises(ArtifactError, match=r"model tiny: \d predictions came of 8 made-up frames .* 64 are"):
        warm_up(pipeline, artifact)


def test_rows_are_warmed_up_without_a_model() -> None:
    warm_up_rows()
