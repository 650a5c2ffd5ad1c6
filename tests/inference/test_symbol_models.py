"""Models that take over, follow in the shadow and are rolled back, against a plain account of every row."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings, stateful
from hypothesis import strategies as st
from numba.core import config

from inference.artifact import Artifact, load_artifact
from inference.calibration import Calibration
from inference.engines.engine import Engine
from inference.engines.selection import create_engine
from inference.follower import Follower
from inference.pipeline import Pipeline
from inference.prediction import Prediction
from inference.symbol_models import PlacedModel, SymbolModels
from lob.errors import InputError
from lob.instrument import Instrument
from lob.rows import RowPath
from lob.sync import SymbolState
from lob.venues import make_decoder
from lob.window import RingWindow

INSTRUMENT = Instrument(symbol="BTCUSDT", tick_size="0.10")
LENGTH = 20  # the window's L; a stream model of these answers from row 5 on


class Exchange:
    """Bybit frames of one book: every change of a size is a row, one of a deep level is none."""

    def __init__(self) -> None:
        self.update_id = 100
        self.number = 0

    def snapshot(self) -> bytes:
        self.update_id += 1
        bids = [[f"{100 - 0.1 * level:.1f}", "1.5"] for level in range(14)]
        asks = [[f"{100.1 + 0.1 * level:.1f}", "2.5"] for level in range(14)]
        return self._frame("snapshot", bids, asks)

    def change(self, level: int = 0) -> bytes:
        self.update_id += 1
        self.number += 1
        size = f"{1 + self.number % 97}.{self.number % 7}"
        return self._frame("delta", [[f"{100 - 0.1 * level:.1f}", size]], [])

    def _frame(self, kind: str, bids: list[list[str]], asks: list[list[str]]) -> bytes:
        u = self.update_id
        data = {"s": "BTCUSDT", "b": bids, "a": asks, "u": u, "seq": u}
        frame = {"topic": "orderbook.50.BTCUSDT", "type": kind, "ts": u, "data": data, "cts": u}
        return json.dumps(frame, separators=(",", ":")).encode()


@dataclass
class Loaded:
    """A model as it is loaded once, and the engines made of it for one pipeline."""

    artifact: Artifact
    first: Engine

    def placed(self, rows: RowPath) -> PlacedModel:
        return PlacedModel(artifact=self.artifact, engine=self.first.another(rows.window))


def loaded(artifact: Artifact, engine: str = "auto") -> Loaded:
    ring = RingWindow(artifact.manifest.window_length, artifact.schema.feature_count)
    return Loaded(artifact, create_engine(engine, artifact, ring))


@pytest.fixture(scope="module")
def models(sources: dict[str, Path], window_artifact: Artifact) -> dict[str, Loaded]:
    """Three versions of one model in several engines, and one that reads the window."""
    return {
        "1": loaded(load_artifact(sources["1"])),
        "2": loaded(load_artifact(sources["2"])),
        "3": loaded(load_artifact(sources["3"]), "ort-step"),
        "window": loaded(window_artifact),
    }


def start(model: Loaded) -> tuple[Pipeline, SymbolModels, Exchange]:
    pipeline = Pipeline.create(model.artifact, INSTRUMENT, engine=model.first)
    pipeline.on_connected()
    return pipeline, SymbolModels(pipeline), Exchange()


def title(prediction: Prediction | None) -> str | None:
    return None if prediction is None else f"{prediction.model}@{prediction.model_version}"


def answer(model: Loaded, rows: list[np.ndarray]) -> list[list[float]] | None:
    """What `model` says of the last of `rows`, all of which it takes from state zero; None while warming."""
    ring = RingWindow(LENGTH, rows[0].size)
    engine = model.first.another(ring)
    engine.reset()
    logits = None
    for row in rows:
        ring.append(row)
        logits = engine.push(ring.latest())
    if logits is None:
        return None
    manifest = model.artifact.manifest
    calibration = Calibration(manifest.temperatures, len(manifest.classes))
    assert calibration.apply(logits)
    return calibration.probabilities.tolist()


def said(prediction: Prediction) -> list[list[float]]:
    return [horizon.probabilities for horizon in prediction.horizons]


def test_the_other_answers_until_the_new_one_is_warm_and_no_row_goes_without(models) -> None:
    pipeline, placed, exchange = start(models["1"])
    frames = [exchange.snapshot(), *(exchange.change() for _ in range(60))]
    titles = []
    for number, frame in enumerate(frames):
        titles.append(title(pipeline.on_frame(frame, number)))
        if number == 6:
            placed.take_over(models["2"].placed(pipeline.rows))
        if number >= 6:
            placed.advance(1)  # a row a frame: it never catches up with 7 rows behind it but for the last
        if number == 30:
            while placed.advance(1):
                pass
    assert titles[:4] == [None] * 4
    assert titles[4:31] == ["tiny@1"] * 27
    assert titles[31:] == ["tiny@2"] * 30
    assert placed.switches == 1
    assert placed.previous is not None
    assert placed.previous.title == "tiny@1"


def test_with_too_few_rows_in_the_window_it_follows_until_it_is_warm(models) -> None:
    pipeline, placed, exchange = start(models["1"])
    titles = []
    pipeline.on_frame(exchange.snapshot(), 0)
    for number in range(40):
        titles.append(title(pipeline.on_frame(exchange.change(), number)))
        if number == 5:  # 7 rows: enough for a stream, too few for a window of 20
            placed.take_over(models["window"].placed(pipeline.rows))
        placed.advance(4)
    assert titles[3:19] == ["tiny@1"] * 16
    assert titles[19:] == ["tiny-window@1"] * 21


def test_a_model_takes_over_at_once_where_nothing_is_answered(models) -> None:
    pipeline, placed, _ = start(models["1"])
    placed.take_over(models["2"].placed(pipeline.rows))
    assert not placed.advance(4)
    assert placed.serving.title == "tiny@2"
    assert not placed.watching


def test_one_that_answers_with_no_numbers_does_not_take_over(models, monkeypatch) -> None:
    pipeline, placed, exchange = start(models["1"])
    for number, frame in enumerate([exchange.snapshot(), *(exchange.change() for _ in range(9))]):
        pipeline.on_frame(frame, number)
    spoilt = models["3"].placed(pipeline.rows)
    push = spoilt.engine.push
    monkeypatch.setattr(spoilt.engine, "push", lambda row: None if push(row) is None else push(row) * np.nan)
    placed.take_over(spoilt)
    while placed.advance(4):
        pass
    assert placed.refusal == "model tiny@3 answers with values that are not finite"
    assert (placed.serving.title, placed.incoming) == ("tiny@1", None)
    assert title(pipeline.on_frame(exchange.change(), 99)) == "tiny@1"


def test_rows_of_another_kind_are_refused_and_change_nothing(models) -> None:
    artifact = models["1"].artifact
    rows = RowPath(make_decoder("bybit"), INSTRUMENT, sampling="top_changed", window_length=30)
    with pytest.raises(InputError, match="window_length: 30 came, model tiny allows 20"):
        Follower(rows, models["1"].first.another(rows.window), artifact)
    rows = RowPath(make_decoder("bybit"), INSTRUMENT, sampling="every_message", window_length=20)
    with pytest.raises(InputError, match="sampling: 'every_message' came"):
        Follower(rows, models["1"].first.another(rows.window), artifact)


def test_an_engine_has_one_place(models) -> None:
    pipeline, placed, _ = start(models["1"])
    with pytest.raises(AssertionError, match="an engine of its own"):
        placed.take_over(PlacedModel(artifact=pipeline.artifact, engine=pipeline.engine))


@dataclass
class Account:
    """Where a model stands, in plain numbers: the rows of the book from `begin` to before `end`."""

    begin: int = 0
    end: int = 0
    book: int = -1

    def advance(self, book: int, rows: int, most: int, *, window: bool) -> None:
        if self.book != book or rows - self.end > min(rows, LENGTH):
            self.begin = self.end = max(0, rows - LENGTH)
            self.book = book
        if window and rows > self.end:
            self.end = rows
        self.end += min(most, rows - self.end)


@dataclass
class Plain:
    """The plain account of one symbol: every row of the book, and who answers."""

    rows: list[np.ndarray] = field(default_factory=list)
    book: int = 0
    serving: str = "1"
    since: int = 0  # the row of the book at which the serving model began
    previous: str | None = None
    incoming: str | None = None
    coming: Account = field(default_factory=Account)


class SwitchingMachine(stateful.RuleBasedStateMachine):
    """Ticks, gaps, switches, shadows and rollbacks in any order.

    Each row is answered once, by the model that serves at that time, with the bits of that model alone on the
    rows it has seen.
    """

    models: dict[str, Loaded]
    seen: Counter[str]
    """What happened over all examples, so that a test can tell that it did."""

    def __init__(self) -> None:
        super().__init__()
        self.pipeline, self.placed, self.exchange = start(self.models["1"])
        self.plain = Plain()
        self.shadowed: list[tuple[Prediction, Prediction]] = []
        self.published: dict[int, tuple[str, list[np.ndarray]]] = {}
        self.number = 0
        self.answered = 0

    def _is_window(self, name: str) -> bool:
        return name == "window"

    def _enough(self, name: str, begin: int) -> bool:
        rows = len(self.plain.rows)
        return rows >= LENGTH if self._is_window(name) else rows - begin >= 5

    def _frame(self, frame: bytes) -> None:
        pipeline, plain = self.pipeline, self.plain
        taken, books = pipeline.rows.taken, pipeline.rows.books
        self.number += 1
        prediction = pipeline.on_frame(frame, self.number)
        if pipeline.rows.books != books:
            plain.rows, plain.book, plain.since = [], pipeline.rows.books, 0
        if pipeline.rows.taken == taken:
            assert prediction is None
            return
        plain.rows.append(pipeline.rows.window.latest().copy())
        if self._enough(plain.serving, plain.since):
            assert prediction is not None
            self.answered += 1
            model = self.models[plain.serving]
            expected = f"{model.artifact.name}@{model.artifact.manifest.version}"
            assert title(prediction) == expected
            assert prediction.update_id == self.exchange.update_id
            begin = max(0, len(plain.rows) - LENGTH) if self._is_window(plain.serving) else plain.since
            assert said(prediction) == answer(model, plain.rows[begin:])
            self.seen["answers after a switch" if self.placed.switches else "answers before any"] += 1
            if self.placed.watching:
                self.placed.note(prediction)
        else:
            assert prediction is None

    @stateful.rule(rows=st.integers(1, 40), every=st.integers(1, 8), most=st.integers(0, 6))
    def ticks(self, rows: int, every: int, most: int) -> None:
        if not self.pipeline.rows.book.usable and rows > 4:
            self._frame(self.exchange.snapshot())
        for number in range(rows):
            self._frame(self.exchange.change(number % 4))
            if most and number % every == 0:
                self.advance(most)

    @stateful.rule(kind=st.sampled_from(["no row", "snapshot", "gap", "lost connection", "give up"]))
    def disturbance(self, kind: str) -> None:
        if kind == "no row":
            self._frame(self.exchange.change(12))
        elif kind == "snapshot":
            self._frame(self.exchange.snapshot())
        elif kind == "gap":
            self.exchange.update_id += 1
            self._frame(self.exchange.change())
        elif kind == "lost connection":
            self.pipeline.on_disconnected("closed")
            self.pipeline.on_connected()
        else:
            self.placed.give_up("")
            self.plain.incoming = None

    @stateful.rule(name=st.sampled_from(["1", "2", "3", "window"]))
    def take_over(self, name: str) -> None:
        self.placed.take_over(self.models[name].placed(self.pipeline.rows))
        self.plain.incoming, self.plain.coming = name, Account()

    @stateful.precondition(lambda self: self.plain.previous is not None)
    @stateful.rule()
    def roll_back(self) -> None:
        assert self.placed.previous is not None
        if self.placed.incoming is not self.placed.previous:
            self.placed.take_over(self.placed.previous)
            self.plain.incoming, self.plain.coming = self.plain.previous, Account()

    @stateful.rule(name=st.sampled_from(["1", "2", "3", "window", None]))
    def shadow(self, name: str | None) -> None:
        if name is None:
            self.placed.end_shadow()
            return
        self.placed.begin_shadow(
            self.models[name].placed(self.pipeline.rows), lambda *both: self.shadowed.append(both)
        )

    @stateful.rule(most=st.integers(1, 40))
    def advance(self, most: int) -> None:
        plain = self.plain
        live = self.pipeline.state is SymbolState.LIVE
        rows = len(plain.rows) if self.pipeline.rows.window.count else 0
        self.placed.advance(most)
        name = plain.incoming
        if name is None:
            return
        plain.coming.advance(self.pipeline.rows.books, rows, most, window=self._is_window(name))
        if plain.coming.end == rows and (not live or self._enough(name, plain.coming.begin)):
            plain.previous, plain.serving, plain.incoming = plain.serving, name, None
            plain.since = plain.coming.begin
            self.seen["switches while live" if live else "switches while not"] += 1
            self.seen["switches to one that saw not all of the book"] += plain.since > 0

    @stateful.invariant()
    def the_same_model_serves(self) -> None:
        model = self.models[self.plain.serving].artifact
        assert self.placed.serving.artifact is model
        assert self.pipeline.artifact is model
        assert self.pipeline.counters["predictions"] == self.answered
        assert (self.placed.incoming is None) == (self.plain.incoming is None)

    @stateful.invariant()
    def the_shadow_answers_published_rows_once_and_in_order(self) -> None:
        updates = [own.update_id for _, own in self.shadowed]
        assert updates == sorted(set(updates))
        assert all(published.update_id == own.update_id for published, own in self.shadowed)
        shadow = self.placed.shadow
        if shadow is not None and not shadow.follower.behind and self.shadowed:
            self._check_shadow()

    def _check_shadow(self) -> None:
        """The shadow's newest answer, where it is of the newest row, is that model's own."""
        shadow = self.placed.shadow
        assert shadow is not None
        published, own = self.shadowed[-1]
        rows = self.pipeline.rows
        if own.update_id != rows.update_id or shadow.follower.logits is None or not rows.window.count:
            return
        probabilities = Calibration(shadow.placed.artifact.manifest.temperatures, 3)
        assert probabilities.apply(shadow.follower.logits)
        if title(own) == shadow.placed.title:
            self.seen["answers in the shadow"] += 1
            assert said(own) == probabilities.probabilities.tolist()
        assert published.emit_ns == own.emit_ns == 0  # neither passed a hub here


@pytest.fixture
def machine(models: dict[str, Loaded]) -> type[SwitchingMachine]:
    class Machine(SwitchingMachine):
        pass

    Machine.models = models
    Machine.seen = Counter()
    return Machine


def test_any_order_of_ticks_switches_shadows_and_gaps(machine: type[SwitchingMachine]) -> None:
    examples = 10 if config.DISABLE_JIT else 60
    stateful.run_state_machine_as_test(
        machine,
        settings=settings(max_examples=examples, stateful_step_count=30, deadline=None, derandomize=True),
    )
    assert len(machine.seen) == 6
    assert min(machine.seen.values()) > examples / 5, machine.seen


@pytest.mark.slow
def test_any_order_of_ticks_switches_shadows_and_gaps_for_long(machine: type[SwitchingMachine]) -> None:
    stateful.run_state_machine_as_test(
        machine, settings=settings(max_examples=1_000, stateful_step_count=60, deadline=None)
    )


def test_the_shadow_says_of_every_row_what_it_would_have_said_alone(models) -> None:
    pipeline, placed, exchange = start(models["1"])
    shadowed: list[tuple[Prediction, Prediction]] = []
    placed.begin_shadow(models["2"].placed(pipeline.rows), lambda *both: shadowed.append(both))
    rows = []
    published = []
    for number, frame in enumerate([exchange.snapshot(), *(exchange.change() for _ in range(70))]):
        prediction = pipeline.on_frame(frame, number)
        rows.append(pipeline.rows.window.latest().copy())
        if prediction is not None:
            placed.note(prediction)
            published.append(prediction)
        if number % 9 == 8:  # far behind for a while, never by more than the window
            while placed.advance(3):
                pass
    while placed.advance(3):
        pass
    assert [both[0] for both in shadowed] == published
    for place, (_, own) in enumerate(shadowed):
        assert title(own) == "tiny@2"
        assert said(own) == answer(models["2"], rows[: place + 5])
    counters = placed.shadow.counters
    assert (counters.answered, counters.unanswered) == (67, 0)
    assert 0 < counters.agreed <= 67


def test_a_shadow_that_was_left_behind_counts_what_it_missed_and_begins_anew(models) -> None:
    pipeline, placed, exchange = start(models["1"])
    shadowed: list[tuple[Prediction, Prediction]] = []
    placed.begin_shadow(models["2"].placed(pipeline.rows), lambda *both: shadowed.append(both))
    pipeline.on_frame(exchange.snapshot(), 0)
    for number in range(100):
        prediction = pipeline.on_frame(exchange.change(), number)
        if prediction is not None:
            placed.note(prediction)
    while placed.advance(7):
        pass
    # 97 rows were answered; the window holds the last 20, of which it warms up on 4.
    assert [own.update_id for _, own in shadowed] == list(
        range(exchange.update_id - 15, exchange.update_id + 1)
    )
    assert placed.shadow.counters.unanswered == 97 - 16
