"""The pipeline under sound and faulty frames: nothing leaves while not LIVE or from a doubtful book.

The venue and the dictionary book below are written from Bybit's documentation and share no code with `lob`.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from inference.artifact import Artifact, write_artifact
from inference.engines.selection import choose_engine, create_engine
from inference.pipeline import Pipeline
from inference.prediction import Prediction, encode_prediction
from lob.captures import CapturedFrame, open_capture
from lob.errors import InputError
from lob.instrument import Instrument
from lob.row_status import RowStatus
from lob.rows import RowPath
from lob.schema import LOB44
from lob.sync import SymbolState
from lob.venues import make_decoder

BYBIT_SPOT = "bybit/spot_btcusdt_cpp_trading_core/orderbook50_btcusdt_1000frames_20260808.ndjson"
SYMBOL = "BTCUSDT"
TICK = 0.5
MILLISECOND = 1_000_000


class Venue:
    """One symbol at the exchange: a true book of ticks and sizes, published as Bybit frames."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.bids = {1000 - level: self._size() for level in range(12)}
        self.asks = {1001 + level: self._size() for level in range(12)}
        self.update_id = 100
        self.now_ms = 1_700_000_000_000

    def snapshot(self) -> bytes:
        self.update_id += self.random.randint(1, 5)
        return self._frame("snapshot", self.bids, self.asks)

    def unchanged_snapshot(self) -> bytes:
        """The book as it stands, under the last change's number, as a quiet book's subscriber gets it."""
        return self._frame("snapshot", self.bids, self.asks)

    def delta(self) -> bytes:
        """One to three changed levels a side, the book neither crossed nor emptied."""
        bids, asks = {}, {}
        for _ in range(self.random.randint(1, 3)):
            best_bid, best_ask = max(self.bids), min(self.asks)
            tick = self.random.randint(best_bid - 11, best_ask - 1)
            bids[tick] = self._change(self.bids, tick)
            tick = self.random.randint(max(self.bids) + 1, best_ask + 11)
            asks[tick] = self._change(self.asks, tick)
        self.update_id += 1
        return self._frame("delta", bids, asks)

    def empty_asks(self) -> tuple[bytes, bytes]:
        """All asks deleted, then brought back."""
        self.update_id += 1
        gone = self._frame("delta", {}, dict.fromkeys(self.asks, 0.0))
        self.update_id += 1
        return gone, self._frame("delta", {}, self.asks)

    def one_sided_snapshot(self) -> tuple[bytes, bytes]:
        """A snapshot without asks, then the asks."""
        self.update_id += 1
        lone = self._frame("snapshot", self.bids, {})
        self.update_id += 1
        return lone, self._frame("delta", {}, self.asks)

    def crossed(self) -> bytes:
        self.update_id += 1
        return self._frame("delta", {min(self.asks): 1.0}, {})

    def delta_with(self, price: object, size: object) -> bytes:
        """A delta in sequence with one level of the caller's making."""
        self.update_id += 1
        document = json.loads(self._frame("delta", {}, {}))
        document["data"]["b"] = [[price, size]]
        return json.dumps(document).encode()

    def _change(self, side: dict[int, float], tick: int) -> float:
        if tick in side and len(side) > 5 and self.random.random() < 0.4:
            del side[tick]
            return 0.0
        side[tick] = self._size()
        return side[tick]

    def _size(self) -> float:
        return self.random.randint(1, 5_000) / 1000

    def _frame(self, kind: str, bids: dict[int, float], asks: dict[int, float]) -> bytes:
        self.now_ms += 20
        document = {
            "topic": f"orderbook.50.{SYMBOL}",
            "type": kind,
            "ts": self.now_ms,
            "data": {
                "s": SYMBOL,
                "b": [
                    [f"{tick * TICK:.2f}", f"{size:.3f}"] for tick, size in sorted(bids.items(), reverse=True)
                ],
                "a": [[f"{tick * TICK:.2f}", f"{size:.3f}"] for tick, size in sorted(asks.items())],
                "u": self.update_id,
                "seq": 7 * self.update_id,
            },
            "cts": self.now_ms - 1,
        }
        return json.dumps(document, separators=(",", ":")).encode()


class DictionaryBook:
    """What a careful subscriber keeps: two dictionaries, and whether they may be believed."""

    def __init__(self) -> None:
        self.bids: dict[float, float] = {}
        self.asks: dict[float, float] = {}
        self.update_id = 0
        self.sound = False
        self.connected = False

    def lose(self) -> None:
        self.sound = False

    def take(self, frame: bytes) -> None:
        if not self.connected:  # a frame of a connection that is gone
            return
        try:
            document = json.loads(frame)
            data = document["data"]
            kind, update_id = document["type"], data["u"]
        except (ValueError, KeyError, TypeError):
            return
        if data["s"] != SYMBOL:
            return
        if kind == "snapshot":
            self.bids, self.asks, self.sound = {}, {}, True
        elif not self.sound or update_id <= self.update_id:
            return
        elif update_id != self.update_id + 1:
            self.sound = False
            return
        for side, changes in ((self.bids, data["b"]), (self.asks, data["a"])):
            for price, size in changes:
                good = isinstance(price, str) and isinstance(size, str) and size.replace(".", "", 1).isdigit()
                if not good or float(price) % TICK:
                    self.sound = False
                    return
                if float(size) == 0:
                    side.pop(float(price), None)
                else:
                    side[float(price)] = float(size)
        self.update_id = update_id
        if self.bids and self.asks and max(self.bids) >= min(self.asks):
            self.sound = False

    @property
    def usable(self) -> bool:
        return self.sound and bool(self.bids) and bool(self.asks)

    def mid(self) -> float:
        return (max(self.bids) + min(self.asks)) / 2

    def top(self) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        return sorted(self.bids.items(), reverse=True)[:10], sorted(self.asks.items())[:10]


class Session:
    """A pipeline and a dictionary book fed with the same frames; every step is checked."""

    def __init__(self, artifact: Artifact, engine: str, seed: int) -> None:
        self.venue = Venue(seed)
        self.pipeline = Pipeline.create(
            artifact, Instrument(symbol=SYMBOL, tick_size=str(TICK)), engine=engine, stall_ms=1000
        )
        self.book = DictionaryBook()
        self.last_delta = b""
        self.predictions: list[bytes] = []

    def feed(self, frame: bytes) -> Prediction | None:
        self.book.take(frame)
        receive_ns = self.venue.now_ms * MILLISECOND
        prediction = self.pipeline.on_frame(frame, receive_ns)
        if prediction is not None:
            assert self.pipeline.state is SymbolState.LIVE
            assert self.book.usable
            assert prediction.symbol == SYMBOL
            assert prediction.update_id == self.book.update_id
            assert prediction.mid == self.book.mid()
            assert prediction.receive_ns == receive_ns
            assert prediction.emit_ns == 0
            for horizon in prediction.horizons:
                assert sum(horizon.probabilities) == pytest.approx(1, abs=1e-12)
                assert horizon.confidence == max(horizon.probabilities)
                assert horizon.probabilities.index(horizon.confidence) == horizon.direction + 1
            self.predictions.append(encode_prediction(prediction))
        self.check()
        return prediction

    def check(self) -> None:
        state = self.pipeline.state
        if self.book.usable:
            assert state in {SymbolState.WARMING, SymbolState.LIVE}
            assert self.pipeline.rows.book.printed(10) == self.book.top()
        elif self.book.sound:
            assert state is SymbolState.WARMING
        else:
            assert state in {SymbolState.CONNECTING, SymbolState.WAITING_SNAPSHOT, SymbolState.STALE}
        assert (self.pipeline.reason == "") == (state is SymbolState.LIVE)

    def connect(self) -> None:
        self.pipeline.on_connected()
        self.book.lose()
        self.book.connected = True

    def delta(self) -> Prediction | None:
        self.last_delta = self.venue.delta()
        return self.feed(self.last_delta)

    def go_live(self) -> None:
        """Changes for as long as the pipeline is not live."""
        while self.pipeline.state is not SymbolState.LIVE:
            self.delta()

    def act(self, action: str) -> None:
        """One step of a sequence, by name."""
        venue, pipeline = self.venue, self.pipeline
        if action == "delta":
            self.delta()
        elif action == "snapshot":
            self.feed(venue.snapshot())
        elif action == "gap":
            venue.delta()
            self.delta()
        elif action == "crossed":
            self.feed(venue.crossed())
        elif action == "negative_size":
            self.feed(venue.delta_with("490.00", "-1.000"))
        elif action == "no_number":
            self.feed(venue.delta_with("490.00", "many"))
        elif action == "off_grid":
            self.feed(venue.delta_with("490.25", "1.000"))
        elif action == "size_as_number":
            self.feed(venue.delta_with("490.00", 1.0))
        elif action == "not_json":
            self.feed(b'{"topic":"orderbook.50.BTCUSDT","ty')
        elif action == "cut_delta":
            self.feed(venue.delta()[:-20])  # the change is lost with it: the next one shows the gap
        elif action == "resend":
            self.feed(self.last_delta or b"{}")
        elif action == "other_symbol":
            venue_of_other = Venue(5)
            self.feed(venue_of_other.snapshot().replace(b"BTCUSDT", b"ETHUSDT"))
        elif action == "pong":
            self.feed(b'{"success":true,"ret_msg":"pong","conn_id":"c","op":"ping"}')
        elif action == "one_sided":
            for frame in venue.empty_asks():
                self.feed(frame)
        elif action == "one_sided_snapshot":
            for frame in venue.one_sided_snapshot():
                self.feed(frame)
        elif action == "stall":
            venue.now_ms += 1001
            pipeline.check_freshness(venue.now_ms * MILLISECOND)
            venue.now_ms += 1001
            pipeline.check_freshness(venue.now_ms * MILLISECOND)
            self.book.lose()
            assert pipeline.state is SymbolState.CONNECTING or pipeline.needs_resync
        elif action == "disconnect":
            pipeline.on_disconnected("code 1006")
            self.book.lose()
            self.book.connected = False
            assert pipeline.state is SymbolState.CONNECTING
        elif action == "connect":
            self.connect()
            assert pipeline.state is SymbolState.WAITING_SNAPSHOT
        elif action == "resync":
            if pipeline.needs_resync:
                pipeline.resync_requested()
                self.feed(venue.snapshot())
        else:
            raise AssertionError(f"no action {action}")
        self.check()


FAULTS = [
    "snapshot",
    "gap",
    "crossed",
    "negative_size",
    "no_number",
    "off_grid",
    "size_as_number",
    "not_json",
    "cut_delta",
    "resend",
    "other_symbol",
    "pong",
    "one_sided",
    "one_sided_snapshot",
    "stall",
    "disconnect",
    "connect",
    "resync",
]
actions = st.lists(st.one_of(st.just("delta"), st.just("delta"), st.sampled_from(FAULTS)), max_size=40)


@pytest.fixture(scope="module", params=["fused", "ort-step", "ort-window"])
def new_session(request: pytest.FixtureRequest, artifact: Artifact) -> Callable[[int], Session]:
    return lambda seed: Session(artifact, request.param, seed)


class TestAnySequence:
    @settings(deadline=None, max_examples=200)
    @given(seed=st.integers(0, 1000), actions=actions)
    @example(seed=0, actions=["snapshot", *["delta"] * 25, "gap", "delta", "resync", *["delta"] * 25])
    @example(seed=1, actions=["snapshot", *["delta"] * 25, "one_sided_snapshot", *["delta"] * 25])
    def test_nothing_doubtful_leaves_and_a_resync_equals_a_fresh_start(
        self, new_session: Callable[[int], Session], seed: int, actions: list[str]
    ) -> None:
        session = new_session(seed)
        session.connect()
        for action in actions:
            session.act(action)
        if session.pipeline.state is SymbolState.CONNECTING:
            session.connect()

        fresh = new_session(seed)
        fresh.venue = session.venue
        fresh.connect()
        session.predictions.clear()
        frame = session.venue.snapshot()
        while len(fresh.predictions) < 5:
            assert (session.feed(frame) is None) == (fresh.feed(frame) is None)
            frame = session.venue.delta()
        assert session.predictions == fresh.predictions

    @pytest.mark.parametrize(
        "fault", sorted(set(FAULTS) - {"not_json", "resend", "other_symbol", "pong", "resync"})
    )
    def test_each_fault_ends_live_and_a_snapshot_heals_it(
        self, new_session: Callable[[int], Session], fault: str
    ) -> None:
        session = new_session(3)
        session.connect()
        session.act("snapshot")
        session.go_live()
        session.act(fault)
        if fault == "cut_delta":
            session.delta()
        if fault == "one_sided":  # sound again without a resync, live again with the next row
            assert session.delta() is not None
            assert session.pipeline.state is SymbolState.LIVE
            return
        state = session.pipeline.state
        assert state is not SymbolState.LIVE
        made = len(session.predictions)
        for _ in range(3):  # fewer than the engine needs to warm up
            session.delta()
        assert len(session.predictions) == made
        session.connect()
        session.act("snapshot")
        while len(session.predictions) == made:
            session.delta()
        assert session.pipeline.state is SymbolState.LIVE

    @pytest.mark.parametrize("harmless", ["not_json", "resend", "other_symbol", "pong", "one_sided"])
    def test_what_is_harmless_leaves_the_predictions_as_they_are(
        self, new_session: Callable[[int], Session], harmless: str
    ) -> None:
        session = new_session(4)
        session.connect()
        session.act("snapshot")
        while not session.predictions:
            session.delta()
        session.act(harmless)
        assert session.delta() is not None
        assert not session.pipeline.needs_resync


def live_session(artifact: Artifact) -> Session:
    session = Session(artifact, "auto", 11)
    session.connect()
    session.act("snapshot")
    session.go_live()
    return session


class TestStates:
    def test_reasons_are_told_and_a_resync_is_asked_for_once(self, artifact: Artifact) -> None:
        session = live_session(artifact)
        pipeline = session.pipeline
        revision = pipeline.state_revision
        session.act("gap")
        assert (pipeline.state, pipeline.reason) == (SymbolState.STALE, "gap in the book's sequence")
        assert pipeline.state_revision > revision
        assert pipeline.needs_resync
        pipeline.resync_requested()
        session.delta()
        assert not pipeline.needs_resync
        assert pipeline.counters["gap"] == 1
        assert pipeline.counters["waiting"] == 1

    def test_nothing_changes_the_revision_while_all_is_well(self, artifact: Artifact) -> None:
        session = live_session(artifact)
        revision = session.pipeline.state_revision
        for _ in range(10):
            session.delta()
        session.act("resend")
        assert session.pipeline.state_revision == revision

    def test_the_disconnects_reason_is_told(self, artifact: Artifact) -> None:
        session = live_session(artifact)
        session.pipeline.on_disconnected("code 1006")
        assert session.pipeline.reason == "connection lost: code 1006"
        assert not session.pipeline.check_freshness(2**62)

    def test_warms_up_for_as_many_rows_as_the_manifest_says(self, artifact: Artifact) -> None:
        session = Session(artifact, "auto", 12)
        session.connect()
        states: list[SymbolState] = []
        for frame in [session.venue.snapshot(), *(session.venue.delta() for _ in range(6))]:
            session.feed(frame)
            if session.pipeline.rows.window.count == len(states) + 1:
                states.append(session.pipeline.state)
        warmup = artifact.manifest.warmup_rows
        assert states[: warmup - 1] == [SymbolState.WARMING] * (warmup - 1)
        assert states[warmup - 1] is SymbolState.LIVE

    def test_a_quiet_feed_goes_stale_after_its_time_and_no_sooner(self, artifact: Artifact) -> None:
        session = live_session(artifact)
        pipeline = session.pipeline
        last_ns = session.venue.now_ms * MILLISECOND
        due_ns = last_ns + 1000 * MILLISECOND
        assert (pipeline.check_freshness(due_ns - MILLISECOND), pipeline.state) == (False, SymbolState.LIVE)
        assert (pipeline.check_freshness(due_ns), pipeline.state) == (True, SymbolState.STALE)
        assert pipeline.reason == "feed stalled: no book message for 1000 ms"
        assert pipeline.needs_resync
        session.book.lose()
        session.delta()  # in sequence, but the book was given up
        assert pipeline.state is SymbolState.STALE

    @pytest.mark.parametrize("lost", ["stall", "disconnect", "connect"])
    def test_an_unchanged_snapshot_starts_again_after_the_book_was_given_up(
        self, artifact: Artifact, lost: str
    ) -> None:
        session = live_session(artifact)
        session.act(lost)
        assert not session.pipeline.rows.book.usable
        if lost == "disconnect":
            session.act("connect")
        session.feed(session.venue.unchanged_snapshot())
        begun = session.pipeline.state
        assert begun is SymbolState.WARMING
        while session.delta() is None:
            assert session.pipeline.rows.window.count <= artifact.manifest.warmup_rows
        assert session.pipeline.state is SymbolState.LIVE

    def test_a_stall_is_counted_once_in_its_time(self, artifact: Artifact) -> None:
        session = live_session(artifact)
        pipeline = session.pipeline
        last_ns = session.venue.now_ms * MILLISECOND
        stalls = []
        for elapsed_ms in (1000, 1010, 1999, 2000, 2010):
            pipeline.check_freshness(last_ns + elapsed_ms * MILLISECOND)
            stalls.append(pipeline.counters["stalls"])
        assert stalls == [1, 1, 1, 2, 2]

    def test_frames_without_a_book_do_not_keep_a_feed_fresh(self, artifact: Artifact) -> None:
        session = live_session(artifact)
        session.venue.now_ms += 900
        session.act("pong")
        session.act("other_symbol")
        assert session.pipeline.check_freshness((session.venue.now_ms + 100) * MILLISECOND)

    def test_an_unchanged_snapshot_keeps_a_feed_fresh(self, artifact: Artifact) -> None:
        session = live_session(artifact)
        session.venue.now_ms += 900
        session.feed(session.venue.unchanged_snapshot())
        assert not session.pipeline.check_freshness((session.venue.now_ms + 900) * MILLISECOND)

    def test_old_changes_do_not_keep_a_feed_fresh(self, artifact: Artifact) -> None:
        session = live_session(artifact)
        session.venue.now_ms += 900
        session.act("resend")
        assert session.pipeline.counters["ignored"] == 1
        assert session.pipeline.check_freshness((session.venue.now_ms + 100) * MILLISECOND)

    def test_nothing_of_a_lost_connection_goes_live(self, artifact: Artifact) -> None:
        session = live_session(artifact)
        session.act("disconnect")
        session.act("snapshot")
        for _ in range(2 * artifact.manifest.warmup_rows):
            assert session.delta() is None
        assert session.pipeline.state is SymbolState.CONNECTING
        assert session.pipeline.reason == "connection lost: code 1006"

    def test_a_restart_whose_snapshot_was_lost_ends_live(self, artifact: Artifact) -> None:
        """The venue counts from 1 again: in time the new numbers would be those that the old book expects."""
        session = live_session(artifact)
        venue, expected = session.venue, session.venue.update_id + 1
        restarted = Venue(99)
        restarted.update_id, restarted.now_ms = 1, venue.now_ms
        for _ in range(2 * expected):
            frame = json.loads(restarted.delta())
            frame["data"]["seq"] += 7 * expected  # the venue's own count goes on
            receive_ns = restarted.now_ms * MILLISECOND
            assert session.pipeline.on_frame(json.dumps(frame).encode(), receive_ns) is None
        assert session.pipeline.state is SymbolState.STALE
        assert session.pipeline.needs_resync
        assert session.pipeline.counters["gap"] == 1

    def test_an_unanswered_request_for_a_snapshot_is_made_again(self, artifact: Artifact) -> None:
        session = live_session(artifact)
        pipeline = session.pipeline
        session.act("gap")
        pipeline.resync_requested()
        now_ns = session.venue.now_ms * MILLISECOND
        asked_again = []
        for seconds in range(1, 7):
            pipeline.check_freshness(now_ns + seconds * 500 * MILLISECOND)
            session.delta()  # changes go on without the snapshot
            asked_again.append(pipeline.needs_resync)
            if pipeline.needs_resync:
                pipeline.resync_requested()
        assert asked_again == [False, False, True, False, False, True]

    def test_a_snapshot_that_never_comes_after_connecting_is_asked_for(self, artifact: Artifact) -> None:
        pipeline = Session(artifact, "auto", 1).pipeline
        pipeline.on_connected()
        pipeline.check_freshness(0)
        pipeline.check_freshness(1000 * MILLISECOND)
        assert pipeline.state is SymbolState.WAITING_SNAPSHOT
        assert pipeline.needs_resync


@pytest.fixture(scope="module")
def poisoned(exported: Any, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The model with one weight that is not a number."""
    graphs = {}
    for kind, content in exported.graphs.items():
        model = onnx.load_from_string(content)
        weight = next(tensor for tensor in model.graph.initializer if tensor.name == "linear_bias")
        values = numpy_helper.to_array(weight).copy()
        values.flat[4] = np.nan
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        graphs[kind] = model.SerializeToString()
    folder = tmp_path_factory.mktemp("poisoned")
    return write_artifact(folder / "tiny", exported.manifest, graphs, card="")


class TestValuesThatAreNotFinite:
    def test_never_become_a_prediction(self, poisoned: Artifact) -> None:
        session = Session(poisoned, "auto", 2)
        session.connect()
        session.feed(session.venue.snapshot())
        for _ in range(10):
            session.venue.now_ms += 20
            if session.pipeline.needs_resync:
                break
            session.pipeline.on_frame(session.venue.delta(), session.venue.now_ms * MILLISECOND)
        assert session.predictions == []
        assert session.pipeline.counters["not_finite"] == 1
        assert session.pipeline.reason == "model produced non-finite values"
        assert session.pipeline.state is SymbolState.WAITING_SNAPSHOT

    def test_end_live_and_nothing_follows_until_a_snapshot(
        self, artifact: Artifact, poisoned: Artifact
    ) -> None:
        session = live_session(artifact)
        pipeline = session.pipeline
        healthy = pipeline.engine
        pipeline.switch_to(create_engine("ort-step", poisoned, pipeline.rows.window), poisoned)
        frames = [session.venue.delta() for _ in range(10)]
        for frame in frames:
            assert pipeline.on_frame(frame, session.venue.now_ms * MILLISECOND) is None
        assert (pipeline.state, pipeline.needs_resync) == (SymbolState.STALE, True)
        assert pipeline.reason == "model produced non-finite values"
        assert pipeline.counters["not_finite"] == 1
        pipeline.switch_to(healthy, artifact)
        session.feed(session.venue.unchanged_snapshot())
        for _ in range(10):
            session.delta()
        assert pipeline.state is SymbolState.LIVE


@pytest.fixture(scope="module")
def capture(data_dir: Path) -> list[CapturedFrame]:
    return list(open_capture(data_dir / BYBIT_SPOT))


class TestRealCapture:
    instrument = Instrument(symbol=SYMBOL, tick_size="0.1")

    def test_equals_the_model_in_pytorch_on_the_same_rows(
        self, artifact: Artifact, exported: Any, capture: list[CapturedFrame]
    ) -> None:
        pipeline = Pipeline.create(artifact, self.instrument)
        rows = RowPath(make_decoder("bybit"), self.instrument, LOB44, "top_changed", 1)
        pipeline.on_connected()
        state = exported.model.initial_state(1)
        temperatures = torch.tensor(artifact.manifest.temperatures, dtype=torch.float64)[:, None]
        sampled = predictions = 0
        for receive_ns, frame in capture[:400]:
            prediction = pipeline.on_frame(frame, receive_ns)
            if rows.on_frame(frame, receive_ns) not in {RowStatus.ROW, RowStatus.SNAPSHOT}:
                assert prediction is None
                continue
            sampled += 1
            with torch.no_grad():
                row = torch.from_numpy(rows.window.latest().copy())[None]
                logits, *state = exported.model.step(row, *state)
            if sampled < artifact.manifest.warmup_rows:
                assert prediction is None
                continue
            assert prediction is not None
            predictions += 1
            wanted = torch.softmax(logits[0].double() / temperatures, dim=1).numpy()
            came = np.array([horizon.probabilities for horizon in prediction.horizons])
            np.testing.assert_allclose(came, wanted, atol=1e-5)
            assert [horizon.horizon for horizon in prediction.horizons] == [10, 50, 100]
            assert (prediction.update_id, prediction.mid) == (rows.update_id, rows.mid)
            assert prediction.exchange_ms == rows.exchange_ms
        assert predictions > 300
        assert pipeline.counters["predictions"] == predictions

    def test_a_lost_frame_silences_it_until_the_next_snapshot(
        self, artifact: Artifact, capture: list[CapturedFrame]
    ) -> None:
        pipeline = Pipeline.create(artifact, self.instrument)
        pipeline.on_connected()
        half = len(capture) // 2
        before = [pipeline.on_frame(frame, receive_ns) for receive_ns, frame in capture[:half]]
        after = [pipeline.on_frame(frame, receive_ns) for receive_ns, frame in capture[half + 1 :]]
        assert sum(prediction is not None for prediction in before) > 100
        assert not any(after)
        assert pipeline.reason == "gap in the book's sequence"
        again = [pipeline.on_frame(frame, receive_ns) for receive_ns, frame in capture]
        fresh = Pipeline.create(artifact, self.instrument)
        fresh.on_connected()
        assert again == [fresh.on_frame(frame, receive_ns) for receive_ns, frame in capture]


class TestComposition:
    def test_rows_must_be_what_the_model_was_trained_on(self, artifact: Artifact) -> None:
        instrument = Instrument(symbol=SYMBOL, tick_size="0.1")
        rows = RowPath(make_decoder("bybit"), instrument, LOB44, "every_message", 20)
        engine = create_engine("auto", artifact, rows.window)
        with pytest.raises(
            InputError, match="sampling: 'every_message' came, model tiny allows 'top_changed'"
        ):
            Pipeline(rows, engine, artifact)

    def test_a_stall_time_below_one_is_refused(self, artifact: Artifact) -> None:
        with pytest.raises(InputError, match="stall_ms: 0 came"):
            Pipeline.create(artifact, Instrument(symbol=SYMBOL, tick_size="0.1"), stall_ms=0)

    def test_create_takes_the_models_settings(
        self, exported: Any, artifact: Artifact, tmp_path: Path
    ) -> None:
        pipeline = Pipeline.create(artifact, Instrument(symbol=SYMBOL, tick_size="0.1"), venue="binance")
        assert pipeline.rows.sampling == artifact.manifest.sampling
        assert pipeline.rows.window.length == artifact.manifest.window_length
        assert pipeline.rows.decoder.venue == "binance"
        assert pipeline.engine.name == choose_engine("auto", artifact)
        assert pipeline.state is SymbolState.CONNECTING
        changed = msgspec.structs.replace(exported.manifest, warmup_rows=1)
        eager = write_artifact(tmp_path / "tiny", changed, exported.graphs, card="")
        session = Session(eager, "auto", 1)
        session.connect()
        assert session.feed(session.venue.snapshot()) is not None
