"""What the demo counts of the stream it is told."""

import json

import msgspec
import pytest

from inference.prediction import HorizonPrediction, Prediction
from serve.accuracy import MaturedAccuracy
from serve.demo import DemoState
from serve.messages import Push, parse_push


def push(**fields: object) -> Push:
    return parse_push(json.dumps({"topic": "prediction.BTCUSDT", "seq": 1, "ts": 1, **fields}).encode())


@pytest.fixture
def state() -> DemoState:
    state = DemoState(MaturedAccuracy((1, 2, 3), (0.0, 0.0, 0.0)))
    state.take(push(type="state", data={"state": "live", "reason": ""}))
    return state


def predicted(mid: float, latency_us: float) -> dict:
    horizons = [HorizonPrediction(k, 1, 0.75, [0.05, 0.2, 0.75]) for k in (1, 2, 3)]
    prediction = Prediction("BTCUSDT", "m", "1", "e", "float32", 1, 1, 1, 2, latency_us, mid, horizons)
    return {"type": "prediction", "data": msgspec.to_builtins(prediction)}


def test_the_state_counts_what_it_is_told(state: DemoState) -> None:
    for number in range(6):
        state.take(push(**predicted(100.0 + number, 10.0 * (number + 1))))
    assert state.predictions == 6
    assert state.tick_latency_us() == pytest.approx((35.0, 59.5))
    assert [score.matured for score in state.accuracy.horizons] == [5, 4, 3]
    assert state.summary() == (
        "6 predictions, tick p50 35 us, p99 60 us, accuracy 1.000 at 1 rows (5 matured), "
        "1.000 at 2 rows (4 matured), 1.000 at 3 rows (3 matured)"
    )
    state.take(push(**predicted(90.0, 10.0), missed=4))
    assert state.missed == 4
    assert [score.matured for score in state.accuracy.horizons] == [5, 4, 3]  # nothing matures over a hole
    state.take(push(type="state", data={"state": "stale", "reason": "gap"}))
    assert state.latest is None
