"""Rehearsals between frames: only while nothing comes, of the model that is served, and off by default."""

import asyncio
from pathlib import Path

import pytest

from inference.artifact import load_artifact
from inference.engines.ort_step import OrtStepEngine
from inference.pipeline import Pipeline
from inference.registry import load_model
from lob.errors import InputError
from lob.instrument import Instrument
from serve.bybit_stream import BookTopic
from serve.clock import AnchoredClock
from serve.feed import Feed
from serve.feed_config import FeedConfig
from serve.hub import Hub
from serve.keep_warm import KeepWarmPolicy, WarmKeeper
from serve.publisher import PredictionPublisher
from tests.serve.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def pipeline(models_dir: Path) -> Pipeline:
    instrument = Instrument(symbol="BTCUSDT", tick_size="0.10")
    return Pipeline.create(load_model("tiny", models_dir), instrument, engine="ort-step")


@pytest.fixture
def feed(pipeline: Pipeline) -> Feed:
    """A feed that has no connection yet."""
    clock = AnchoredClock()
    consumer = PredictionPublisher(pipeline, Hub(["BTCUSDT"], clock))
    return Feed(FeedConfig(url="ws://127.0.0.1:1"), {BookTopic(symbol="BTCUSDT", depth=50): consumer}, clock)


@pytest.mark.parametrize("policy", [KeepWarmPolicy(every_ms=1), KeepWarmPolicy(every_ms=1, busy_poll=True)])
async def test_steps_are_taken_while_nothing_comes(policy, feed: Feed, pipeline: Pipeline) -> None:
    keeper = WarmKeeper(policy, feed, [pipeline])
    running = asyncio.create_task(keeper.run())
    await until(lambda: keeper.steps > 20)
    assert 0 < keeper.longest_ns <= keeper.spent_ns
    assert set(pipeline.counters.values()) == {0}
    running.cancel()


async def test_none_is_taken_while_frames_come(feed: Feed, pipeline: Pipeline) -> None:
    keeper = WarmKeeper(KeepWarmPolicy(every_ms=1), feed, [pipeline])
    running = asyncio.create_task(keeper.run())

    async def frames_come() -> None:
        while True:
            feed.counters.frames += 1
            await asyncio.sleep(0)

    coming = asyncio.create_task(frames_come())
    await asyncio.sleep(0)
    await until(lambda: feed.counters.frames > 2_000)
    assert keeper.steps == 0
    coming.cancel()
    await until(lambda: keeper.steps > 0)
    running.cancel()


async def test_a_model_put_in_its_place_is_the_one_rehearsed(
    feed: Feed, pipeline: Pipeline, version_sources: dict[str, Path]
) -> None:
    keeper = WarmKeeper(KeepWarmPolicy(every_ms=1), feed, [pipeline])
    running = asyncio.create_task(keeper.run())
    await until(lambda: keeper.steps > 0)
    other = load_artifact(version_sources["2"])
    pipeline.switch_to(OrtStepEngine(other), other)
    steps = keeper.steps
    await until(lambda: keeper.steps > steps + 1)
    (rehearsal,) = keeper._rehearsals.values()
    assert rehearsal.pipeline.artifact is other
    running.cancel()


def test_a_model_that_two_symbols_loaded_each_by_itself_has_one_rehearsal(
    feed: Feed, pipeline: Pipeline, models_dir: Path
) -> None:
    instrument = Instrument(symbol="ETHUSDT", tick_size="0.01")
    other = Pipeline.create(load_model("tiny", models_dir), instrument, engine="ort-step")
    assert other.artifact is not pipeline.artifact
    keeper = WarmKeeper(KeepWarmPolicy(every_ms=1), feed, [pipeline, other])
    rehearsals = set()
    for _ in range(4):
        keeper._step()
        rehearsals |= set(keeper._rehearsals.values())
    assert len(rehearsals) == 1


async def test_it_is_off_by_default(feed: Feed, pipeline: Pipeline) -> None:
    keeper = WarmKeeper(KeepWarmPolicy(), feed, [pipeline])
    await asyncio.wait_for(keeper.run(), 5)
    assert keeper.steps == 0


@pytest.mark.parametrize("every_ms", [0, 0.01, 1001, float("nan")])
def test_a_time_outside_the_bounds_is_refused(every_ms: float) -> None:
    with pytest.raises(InputError, match=r"every_ms: .* 0\.1 to 1000 or None is allowed"):
        KeepWarmPolicy(every_ms=every_ms)
