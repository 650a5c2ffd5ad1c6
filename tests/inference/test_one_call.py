"""The one call for a tick against the same steps one after the other: everything alike, to the last bit.

Three pipelines with the engine `fused` are fed the same: staged; one call from a frame's bytes; one call from
a decoded change.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba import config

from inference.artifact import Artifact
from inference.engines.fused import FusedEngine
from inference.engines.ort_step import OrtStepEngine
from inference.fused.tick import NOT_FINITE
from inference.pipeline import Pipeline
from inference.prediction import Prediction, encode_prediction
from lob.captures import open_capture
from lob.instrument import Instrument
from lob.market import SimulatedMarket
from lob.row_kernels import OUTCOME_SHIFT
from lob.row_status import RowStatus
from lob.rows import RowPath
from lob.sync import SymbolState
from lob.venues import make_decoder

BYBIT_SPOT = "bybit/spot_btcusdt_cpp_trading_core/orderbook50_btcusdt_1000frames_20260808.ndjson"
MILLISECOND = 1_000_000
MARKET = SimulatedMarket()
INSTRUMENT = MARKET.configuration.instrument


def make_pipelines(artifact: Artifact, instrument: Instrument, precision: str, venue: str) -> list[Pipeline]:
    """Staged, from bytes, from decoded changes."""
    made = []
    for scan, staged in ((False, True), (True, False), (False, False)):
        rows = RowPath(
            make_decoder(venue),
            instrument,
            artifact.schema,
            artifact.manifest.sampling,
            artifact.manifest.window_length,
            scan=scan,
        )
        engine = FusedEngine(artifact, precision=precision)
        made.append(Pipeline(rows, engine, artifact, stall_ms=1000, staged=staged))
    return made


class Alike:
    """Pipelines that whatever happens happens to, and that must not differ in anything."""

    def __init__(self, pipelines: list[Pipeline]) -> None:
        self.pipelines = pipelines
        self.went_on = [0] * len(pipelines)
        self.predictions = 0

    def frame(self, frame: bytes, receive_ns: int) -> Prediction | None:
        answers = [pipeline.on_frame(frame, receive_ns) for pipeline in self.pipelines]
        encoded = [answer and encode_prediction(answer) for answer in answers]
        assert encoded[1:] == encoded[:-1], frame
        for place, pipeline in enumerate(self.pipelines):
            self.went_on[place] += pipeline.rows.outcome > 0
        self.predictions += answers[0] is not None
        self.compare()
        return answers[0]

    def happens(self, event: Callable[[Pipeline], object]) -> None:
        answers = [event(pipeline) for pipeline in self.pipelines]
        assert answers[1:] == answers[:-1]
        self.compare()

    def compare(self) -> None:
        first, *others = map(everything_of, self.pipelines)
        for other in others:
            assert other == first


def everything_of(pipeline: Pipeline) -> dict[str, object]:
    rows, engine = pipeline.rows, pipeline.engine
    book = rows.book
    assert isinstance(engine, FusedEngine)
    bids, asks = book.bids(), book.asks()
    return {
        "state": (pipeline.state, pipeline.reason, pipeline.needs_resync, pipeline.state_revision),
        "counters": pipeline.counters,
        "fresh": pipeline._fresh_ns,
        "numbers": (rows.update_id, rows.exchange_ms, rows.gateway_ms),
        "header": book.header.tolist(),
        "book": [part.tobytes() for part in (*bids, *asks)],
        "window": (rows.window.position, rows.window.count, rows.window.storage.tobytes()),
        "engine": (engine._rows, engine._state.tobytes()),
    }


Made = Callable[..., Alike]


@pytest.fixture(scope="module")
def alike(artifact: Artifact, s6_artifact: Artifact) -> Made:
    """Makes three pipelines that wait for a snapshot; engines are made once for each model and format."""
    kept: dict[tuple[str, str, str], list[Pipeline]] = {}

    def make(block: str = "ssd", precision: str = "float32", venue: str = "bybit") -> Alike:
        chosen = {"ssd": artifact, "s6": s6_artifact}[block]
        key = block, precision, venue
        if key not in kept:
            kept[key] = make_pipelines(chosen, INSTRUMENT, precision, venue)
        fresh = []
        for old, (scan, staged) in zip(
            kept[key], ((False, True), (True, False), (False, False)), strict=True
        ):
            rows = RowPath(
                make_decoder(venue), INSTRUMENT, chosen.schema, chosen.manifest.sampling, 20, scan=scan
            )
            old.engine.reset()
            fresh.append(Pipeline(rows, old.engine, chosen, stall_ms=1000, staged=staged))
        made = Alike(fresh)
        made.happens(Pipeline.on_connected)
        return made

    return make


FRAMES = [frame for _, frame in MARKET.frames(80)]


def edited(frame: bytes, **data: Any) -> bytes:
    """A frame of the market with fields of its `data` replaced."""
    document = json.loads(frame)
    document["data"].update(data)
    return json.dumps(document, separators=(",", ":")).encode()


def one_sided(frame: bytes, bids: dict[str, str]) -> bytes:
    return edited(frame, b=[[price, "0"] for price in bids], a=[])


ACTIONS = [
    *(
        "delta",
        "delta",
        "delta",
        "delta",
        "snapshot",
        "lone_snapshot",
        "restart",
        "gap",
        "resend",
        "old_numbers",
    ),
    *(
        "spaced",
        "cut",
        "no_number",
        "off_grid",
        "long_size",
        "crossed",
        "empty_side",
        "other_symbol",
        "other_depth",
    ),
    *("pong", "not_finite", "late", "stall", "disconnect", "connect"),
]


def frames_of(action: str, place: int) -> Iterator[bytes]:
    """The frames of an action, `place` being that of the market's next change."""
    delta = FRAMES[place]
    snapshot = json.loads(FRAMES[0])["data"]
    number = json.loads(delta)["data"]["u"]
    if action == "delta":
        yield delta
    elif action == "snapshot":
        yield FRAMES[0]
    elif action == "lone_snapshot":  # without asks: the first row comes with a change
        yield edited(FRAMES[0], a=[], u=number - 1)
        yield edited(delta, b=[], a=snapshot["a"])
    elif action == "restart":
        yield edited(FRAMES[0], u=1)
    elif action == "gap":
        yield edited(delta, u=number + 1)
    elif action == "resend":
        yield FRAMES[place - 1]
    elif action == "old_numbers":
        yield edited(delta, u=2, seq=10**12)
    elif action == "spaced":
        yield json.dumps(json.loads(delta)).encode()
    elif action == "cut":
        yield delta[:-20]
    elif action == "no_number":
        yield edited(delta, b=[["many", "1"]])
    elif action == "off_grid":
        yield edited(delta, b=[[snapshot["b"][0][0] + "3", "1"]])
    elif action == "long_size":
        yield edited(delta, b=[[snapshot["b"][5][0], "0.123456789012345678901"]])
    elif action == "crossed":
        yield edited(delta, b=[[snapshot["a"][-1][0], "1"]], a=[])
    elif action == "empty_side":
        held = {
            price: size for frame in FRAMES[: place + 1] for price, size in json.loads(frame)["data"]["b"]
        }
        yield one_sided(delta, held)
        yield edited(FRAMES[place + 1], b=snapshot["b"], a=[])
    elif action == "other_symbol":
        yield delta.replace(INSTRUMENT.symbol.encode(), b"OTHER")
    elif action == "other_depth":
        yield delta.replace(b"orderbook.50", b"orderbook.200")
    elif action == "pong":
        yield b'{"success":true,"ret_msg":"pong","conn_id":"c","op":"ping"}'


def act(pipelines: Alike, action: str, place: int) -> None:
    now_ns = 1_700_000_000_000 * MILLISECOND + place * 20 * MILLISECOND
    for frame in frames_of(action, place):
        pipelines.frame(frame, now_ns)
    if action == "not_finite":
        pipelines.happens(spoil)
        pipelines.frame(FRAMES[place], now_ns)
        pipelines.happens(lambda pipeline: pipeline.engine.reset())
    elif action == "late":
        pipelines.happens(lambda pipeline: pipeline.on_late("9 ms"))
    elif action == "stall":
        pipelines.happens(lambda pipeline: pipeline.check_freshness(now_ns + 1001 * MILLISECOND))
        pipelines.happens(lambda pipeline: pipeline.check_freshness(now_ns + 2002 * MILLISECOND))
    elif action == "disconnect":
        pipelines.happens(lambda pipeline: pipeline.on_disconnected("code 1006"))
    elif action == "connect":
        pipelines.happens(Pipeline.on_connected)


def spoil(pipeline: Pipeline) -> None:
    """Leave the model's state as an overflow would in the end."""
    assert isinstance(pipeline.engine, FusedEngine)
    pipeline.engine._state.fill(np.nan)


class TestAnySequence:
    @settings(deadline=None, max_examples=3 if config.DISABLE_JIT else 150)
    @given(
        block=st.sampled_from(["ssd", "s6"]),
        actions=st.lists(st.sampled_from(ACTIONS), max_size=4 if config.DISABLE_JIT else 30),
    )
    @example(block="ssd", actions=[*["delta"] * 8, *ACTIONS])
    @example(block="s6", actions=[*["delta"] * 8, *reversed(ACTIONS)])
    @example(
        block="ssd", actions=["lone_snapshot", *["delta"] * 8, "not_finite", "delta", "snapshot", "delta"]
    )
    @example(block="ssd", actions=["not_finite", *["delta"] * 8])
    def test_all_ways_are_one(self, alike: Made, block: str, actions: list[str]) -> None:
        pipelines = alike(block)
        pipelines.frame(FRAMES[0], 1_700_000_000_000 * MILLISECOND)
        for place, action in enumerate(actions, start=1):
            act(pipelines, action, place)
        # Whatever came, a snapshot heals all alike.
        pipelines.happens(Pipeline.on_connected)
        before = list(pipelines.went_on)
        for frame in FRAMES[:12]:
            pipelines.frame(frame, 1_700_000_000_000 * MILLISECOND)
        assert pipelines.pipelines[0].state is SymbolState.LIVE
        went_on = [now - then for now, then in zip(pipelines.went_on, before, strict=True)]
        assert went_on == [0, 11, 11]  # the first row of a book is left to the steps

    @pytest.mark.parametrize("precision", ["bfloat16", "int16", "int8"])
    def test_in_every_number_format(self, alike: Made, precision: str) -> None:
        pipelines = alike("ssd", precision)
        for frame in FRAMES[:40]:
            pipelines.frame(frame, 0)
        assert pipelines.predictions == 40 - 4  # all but the warming rows
        assert pipelines.went_on == [0, 39, 39]


def test_outcome_of_a_logit_that_is_not_finite(alike: Made) -> None:
    pipelines = alike()
    for frame in FRAMES[:10]:
        pipelines.frame(frame, 0)
    assert pipelines.predictions == 10 - 4  # all but the warming rows
    pipelines.happens(spoil)
    assert pipelines.frame(FRAMES[10], 0) is None
    staged, *others = pipelines.pipelines
    assert staged.counters["not_finite"] == 1
    assert staged.state is SymbolState.STALE
    assert [pipeline.rows.outcome for pipeline in others] == [NOT_FINITE] * 2


@pytest.mark.skipif(config.DISABLE_JIT, reason="a thousand times slower")
@pytest.mark.parametrize("block", ["ssd", "s6"])
def test_real_frames(data_dir: Path, artifact: Artifact, s6_artifact: Artifact, block: str) -> None:
    chosen = {"ssd": artifact, "s6": s6_artifact}[block]
    instrument = Instrument(symbol="BTCUSDT", tick_size="0.1")
    pipelines = Alike(make_pipelines(chosen, instrument, "float32", "bybit"))
    pipelines.happens(Pipeline.on_connected)
    for receive_ns, frame in open_capture(data_dir / BYBIT_SPOT):
        pipelines.frame(frame, receive_ns)
    assert pipelines.predictions > 500
    assert pipelines.went_on[1] == pipelines.went_on[2] >= pipelines.predictions


def test_changes_kept_for_a_snapshot_sent_apart(alike: Made) -> None:
    """A venue whose frames are not scanned: both calls begin at the decoded change."""
    pipelines = alike(venue="binance")
    assert not any(pipeline.rows.scans for pipeline in pipelines.pipelines)
    stream = INSTRUMENT.symbol.lower()

    def change(number: int) -> bytes:
        price = float(json.loads(FRAMES[0])["data"]["b"][0][0])
        data = {"e": "depthUpdate", "E": 5, "T": 4, "s": INSTRUMENT.symbol, "U": number, "u": number}
        data |= {"b": [[f"{price:.2f}", f"{number}.5"]], "a": []}
        return json.dumps({"stream": f"{stream}@depth@100ms", "data": data}).encode()

    book = json.loads(FRAMES[0])["data"]
    snapshot = json.dumps({"lastUpdateId": 20, "bids": book["b"], "asks": book["a"]}).encode()
    for number in (19, 20, 21):
        pipelines.frame(change(number), 7)
    pipelines.frame(snapshot, 8)
    for number in range(22, 40):
        pipelines.frame(change(number), 9)
    assert pipelines.predictions > 10
    assert pipelines.went_on == [0, 18, 18]


def test_a_sequel_is_called_without_effect_when_it_is_set(alike: Made) -> None:
    pipelines = alike()
    for frame in FRAMES[:20]:
        pipelines.frame(frame, 0)
    pipelines.happens(lambda pipeline: pipeline.switch_to(pipeline.engine, pipeline.artifact))
    for frame in FRAMES[20:30]:
        assert pipelines.frame(frame, 0) is not None


def test_another_engine_may_take_over_between_two_frames(artifact: Artifact) -> None:
    """One with a tick of its own, one without, and back: each answers as one that saw the same rows."""
    pipeline = make_pipelines(artifact, INSTRUMENT, "float32", "bybit")[1]
    pipeline.on_connected()
    fused, pushed = pipeline.engine, OrtStepEngine(artifact)
    answered = [pipeline.on_frame(frame, 0) for frame in FRAMES[:10]]
    assert sum(answer is not None for answer in answered) == 6
    pipeline.switch_to(pushed, artifact)
    answered = [pipeline.on_frame(frame, 0) for frame in FRAMES[10:20]]
    assert [answer is not None for answer in answered] == [False] * 4 + [True] * 6
    assert answered[-1] is not None
    assert answered[-1].engine == "ort-step"
    pipeline.switch_to(fused, artifact)
    answer = pipeline.on_frame(FRAMES[20], 0)
    assert answer is not None
    assert answer.engine == "fused"
    assert pipeline.rows.outcome > 0


def test_codes_leave_room_for_every_status() -> None:
    assert max(RowStatus) < 1 << OUTCOME_SHIFT


@pytest.mark.skipif(config.DISABLE_JIT, reason="this is what that runs")
def test_without_the_compiler() -> None:
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(Path(__file__))]
    command += ["-k", "not number_format"]  # the formats have tests of their own without it
    came = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert came.returncode == 0, came.stdout[-3000:]
