"""Many symbols' frames taken in batches against each symbol's own pipeline, bit for bit."""

import random
from typing import TypeAlias

import numpy as np
import pytest

from inference.artifact import Artifact
from inference.engines.fused import FusedEngine
from inference.engines.selection import create_engine
from inference.pipeline import Pipeline
from inference.pipeline_batch import PipelineBatch
from inference.prediction import Prediction, encode_prediction
from lob.captures import CapturedFrame
from lob.market import MarketConfiguration, SimulatedMarket
from lob.sync import SymbolState

Arrivals: TypeAlias = list[tuple[int, CapturedFrame]]
"""Numbers of symbols, each with the time and the bytes of its frame."""

SYMBOLS = 120
FRAMES = 30


class Traffic:
    """Every symbol's pipeline twice, one fed in batches and one frame by frame, and their frames."""

    def __init__(self, artifact: Artifact, symbols: int = SYMBOLS, *, engine: str = "fused") -> None:
        self.batched: list[Pipeline] = []
        self.alone: list[Pipeline] = []
        self.frames: list[list[CapturedFrame]] = []
        for number in range(symbols):
            market = SimulatedMarket(MarketConfiguration(symbol=f"COIN{number}USDT", seed=number))
            instrument = market.configuration.instrument
            self.frames.append(list(market.frames(FRAMES)))
            for pipelines in (self.batched, self.alone):
                shared = pipelines[0].engine if pipelines else engine
                pipelines.append(Pipeline.create(artifact, instrument, engine=shared, depth=50))
                pipelines[-1].on_connected()
        first = self.batched[0].engine
        assert isinstance(first, FusedEngine)
        self.batch = PipelineBatch(first.batch())
        self.predictions = [0] * symbols

    def arrive(self, due: Arrivals) -> list[Prediction | None]:
        """Frames of some symbols arrive together; the answers, which are those of one by one."""
        came = self.batch.on_frames([(self.batched[n], frame, ns) for n, (ns, frame) in due])
        wanted = [self.alone[n].on_frame(frame, ns) for n, (ns, frame) in due]
        assert [one and encode_prediction(one) for one in came] == [
            one and encode_prediction(one) for one in wanted
        ]
        for (number, _), answer in zip(due, came, strict=True):
            self.predictions[number] += answer is not None
        return came

    def compare(self) -> None:
        for one, other in zip(self.batched, self.alone, strict=True):
            assert one.counters == other.counters
            assert (one.state, one.reason) == (other.state, other.reason)
            assert one.needs_resync == other.needs_resync


def queue_of(traffic: Traffic, seed: int) -> Arrivals:
    """All frames, each symbol's in order, the symbols shuffled: some are due again at once."""
    order = [number for number, frames in enumerate(traffic.frames) for _ in frames]
    random.Random(seed).shuffle(order)
    left = [iter(frames) for frames in traffic.frames]
    return [(number, next(left[number])) for number in order]


def in_batches(queue: Arrivals, seed: int) -> list[Arrivals]:
    sizes, batches = random.Random(seed), []
    while queue:
        size = sizes.randint(1, 13)
        batches.append(queue[:size])
        queue = queue[size:]
    return batches


def test_a_hundred_symbols_in_batches_answer_as_each_alone(artifact: Artifact) -> None:
    traffic = Traffic(artifact)
    for due in in_batches(queue_of(traffic, 1), 2):
        traffic.arrive(due)
    traffic.compare()
    assert min(traffic.predictions) > 10


def test_a_hot_symbol_among_many_starves_nobody(artifact: Artifact) -> None:
    """Every batch begins with frames of the hot symbol; each of the others still gets its one."""
    traffic = Traffic(artifact, 100)
    hot = iter(SimulatedMarket(MarketConfiguration(symbol="COIN0USDT", seed=0)).frames(3_000))
    for turn in range(FRAMES):
        for start in range(1, 100, 7):
            due = [(0, next(hot)) for _ in range(3)]
            due += [(number, traffic.frames[number][turn]) for number in range(start, min(100, start + 7))]
            traffic.arrive(due)
    traffic.compare()
    assert min(traffic.predictions) > 10  # not every frame gives a row, and the first rows warm
    assert traffic.predictions[0] > 50 * max(traffic.predictions[1:])


@pytest.mark.parametrize("spoil", ["gap", "nan", "crossed", "not json", "disconnected"])
def test_what_befalls_one_symbol_leaves_the_others_alone(artifact: Artifact, spoil: str) -> None:
    traffic = Traffic(artifact, 100)

    def spoilt(number: int, turn: int) -> CapturedFrame:
        ns, frame = traffic.frames[number][turn]
        if number == 41 and turn >= 15:
            if spoil == "gap" and turn == 15:
                return CapturedFrame(ns, b'{"topic":"nothing"}')
            if spoil == "crossed" and turn == 15:
                return CapturedFrame(ns, frame.replace(b'"a":[', b'"a":[["0.10","5"],'))
            if spoil == "not json":
                return CapturedFrame(ns, frame[:-9])
        return CapturedFrame(ns, frame)

    before: list[int] = []
    for turn in range(FRAMES):
        if turn == 15 and spoil == "nan":
            for pipelines in (traffic.batched, traffic.alone):
                engine = pipelines[41].engine
                assert isinstance(engine, FusedEngine)
                engine.push(np.full(44, np.nan, np.float32))
        if turn == 15 and spoil == "disconnected":
            for pipelines in (traffic.batched, traffic.alone):
                pipelines[41].on_disconnected("by a test")
        for start in range(0, 100, 8):
            numbers = range(start, min(100, start + 8))
            traffic.arrive([(number, spoilt(number, turn)) for number in numbers])
        if turn == 16:
            before = list(traffic.predictions)
    traffic.compare()
    since = [after - earlier for after, earlier in zip(traffic.predictions, before, strict=True)]
    assert since.pop(41) == 0
    assert min(since) > 3
    states = [pipeline.state for pipeline in traffic.batched]
    lost = states.pop(41) is not SymbolState.LIVE
    assert lost is (spoil != "not json")  # the next frame in order shows what was lost, and none comes
    assert set(states) == {SymbolState.LIVE}


def test_staged_decoded_and_other_engines_take_part(artifact: Artifact) -> None:
    """A pipeline that cannot be batched among those that can, and one that was given another model."""
    traffic = Traffic(artifact, 12)
    for pipelines in (traffic.batched, traffic.alone):
        for number, name in ((3, "ort-step"), (7, "fused")):  # made anew: not of the batch's model
            engine = create_engine(name, artifact, pipelines[number].rows.window)
            pipelines[number].switch_to(engine, artifact)
    assert traffic.batched[3].seat is None
    for due in in_batches(queue_of(traffic, 3), 4):
        traffic.arrive(due)
    traffic.compare()
    assert min(traffic.predictions) > 10


def test_a_batch_of_frames_without_rows_and_an_empty_one(artifact: Artifact) -> None:
    traffic = Traffic(artifact, 3)
    assert traffic.arrive([]) == []
    pong = CapturedFrame(0, b'{"op":"pong"}')
    assert traffic.arrive([(0, pong), (1, pong), (0, pong)]) == [None] * 3
    traffic.compare()
