"""Injected faults, stream to stream: what each keeps, what each breaks, and the same each time."""

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lob.book_digest import ASK, BID, MASK, level_digest
from lob.market import MarketConfiguration, SimulatedMarket
from serve.exchange_book import ExchangeBook
from serve.fault_injection import FaultInjector, Injection
from serve.fault_plan import KINDS, SUBSCRIPTION_KINDS, TRUE_KINDS, WIRE_KINDS, FaultPlan, FaultRule
from serve.faults import Delivery
from serve.wire_faults import BinaryMessage, CutMessage, FragmentedMessage, RefuseConnections

COUNT = 400
MESSAGES = [
    Delivery(message.sent_us * 1000, message.frame, (message.frame,), message.topic)
    for message in islice(
        SimulatedMarket(MarketConfiguration(seed=3), depths=(1, 50, 200), trades=True).messages(), COUNT
    )
]
TOPIC = "orderbook.50.BTCUSDT"
CLEAN = [delivery for delivery in MESSAGES if delivery.topic == TOPIC]
"""One topic's stream: a snapshot and deltas."""


def injected(
    stream: list[Delivery] = CLEAN, seed: int = 0, **rule: Any
) -> tuple[list[Delivery], list[Injection]]:
    """The stream under one rule, and what was injected."""
    return planned(FaultPlan(rules=(FaultRule(**rule),), seed=seed), stream)


def planned(plan: FaultPlan, stream: list[Delivery] = CLEAN) -> tuple[list[Delivery], list[Injection]]:
    told: list[Injection] = []
    return list(FaultInjector(plan, on_injection=told.append).inject(iter(stream))), told


def texts(deliveries: list[Delivery]) -> list[bytes]:
    return [sent for delivery in deliveries for sent in delivery.sent if isinstance(sent, bytes)]


def update_ids(frames: list[bytes]) -> list[int]:
    return [json.loads(frame)["data"]["u"] for frame in frames]


class PlainBook:
    """Bybit's rules in dictionaries, by themselves: raises where the sequence is broken."""

    def __init__(self) -> None:
        self.sides: tuple[dict[float, float], dict[float, float]] = ({}, {})
        self.update_id = 0

    def apply(self, frame: bytes) -> None:
        message = json.loads(frame)
        number = message["data"]["u"]
        if message["type"] == "snapshot" or number == 1:
            self.sides = ({}, {})
        else:
            assert number == self.update_id + 1
        self.update_id = number
        for side, levels in zip(self.sides, (message["data"]["b"], message["data"]["a"]), strict=True):
            assert len({float(price) for price, _ in levels}) == len(levels)
            for price, size in levels:
                if float(size) == 0:
                    del side[float(price)]  # fails where there is nothing to delete
                else:
                    side[float(price)] = float(size)

    @property
    def digest(self) -> int:
        sides = zip((BID, ASK), self.sides, strict=True)
        return sum(level_digest(name, *level) for name, side in sides for level in side.items()) & MASK


def books(frames: list[bytes]) -> Iterator[PlainBook]:
    book = PlainBook()
    for frame in frames:
        book.apply(frame)
        yield book


TRUTH = [{name: dict(side) for name, side in zip("ba", b.sides, strict=True)} for b in books(texts(CLEAN))]
"""The book of the clean stream after each of its frames."""


# --- what every fault keeps


@pytest.mark.parametrize("kind", sorted(set(KINDS) - SUBSCRIPTION_KINDS))
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_every_fault_keeps_the_market_s_own_book_in_sequence(kind: str, data: st.DataObject) -> None:
    rule: dict[str, Any] = {"kind": kind, "after": data.draw(st.integers(0, 40))}
    rule[data.draw(st.sampled_from(["every", "probability"]))] = 1
    rule.pop("probability", None)
    rule["every"] = data.draw(st.integers(1, 30))
    seed = data.draw(st.integers(0, 9))
    deliveries, told = injected(seed=seed, **rule)
    assert len(deliveries) == len(CLEAN)  # one out for each in, at its time
    assert [d.receive_ns for d in deliveries] == [d.receive_ns for d in CLEAN]
    altered = 0
    for i, book in enumerate(books([d.market for d in deliveries])):
        if kind not in {"crossed", "one-sided"}:
            assert dict(zip("ba", book.sides, strict=True)) == TRUTH[i]
        altered += dict(zip("ba", book.sides, strict=True)) != TRUTH[i]
    if kind not in TRUE_KINDS:
        assert [d.market for d in deliveries] == [d.market for d in CLEAN]
    else:
        assert all(d.sent == (d.market,) for d in deliveries)  # everybody is told of it
    assert altered == (len(told) if kind in {"crossed", "one-sided"} else 0)
    assert {injection.kind for injection in told} <= {kind}
    assert (deliveries, told) == injected(seed=seed, **rule)  # the same seed, the same faults


@pytest.mark.parametrize("kind", sorted(set(KINDS) - SUBSCRIPTION_KINDS))
def test_every_fault_happens_when_its_rule_says(kind: str) -> None:
    deliveries, told = injected(kind=kind, every=20, after=10, times=3)
    assert len(told) == 3
    met = [update_ids([d.market])[0] for d in (CLEAN[30], CLEAN[50], CLEAN[70])]
    if kind != "restart":
        assert [injection.update_id for injection in told] == met
    assert [injection.market_ns for injection in told] == [CLEAN[i].receive_ns for i in (30, 50, 70)]
    assert deliveries[:30] == CLEAN[:30]
    if kind != "stall":
        assert deliveries[30] != CLEAN[30]


def test_a_rule_without_a_condition_takes_one() -> None:
    assert len(injected(kind="drop")[1]) == 1
    assert injected(kind="drop", after=len(CLEAN))[1] == []
    _, told = injected(kind="drop", at=1.0)
    first_ns = CLEAN[0].receive_ns
    assert [injection.market_ns - first_ns >= 1_000_000_000 for injection in told] == [True]
    _, told = injected(kind="drop", probability=0.5, seed=1)
    assert len(CLEAN) / 4 < len(told) < len(CLEAN) * 3 / 4


def test_seconds_are_the_subscriber_s_at_any_speed() -> None:
    rule = FaultRule(kind="stall", at=0.1, seconds=0.1)
    injector = FaultInjector(FaultPlan(rules=(rule,)), speed=5)
    silent = [d.receive_ns - CLEAN[0].receive_ns for d in injector.inject(iter(CLEAN)) if not d.sent]
    assert 0.5e9 <= silent[0] < 0.55e9
    assert 0.95e9 < silent[-1] < 1.0e9


def test_topics_do_not_depend_on_each_other() -> None:
    together, _ = injected(MESSAGES, kind="malformed", probability=0.3)
    alone, _ = injected(CLEAN, kind="malformed", probability=0.3)
    assert [d for d in together if d.topic == TOPIC] == alone
    untouched = [d for d in MESSAGES if d.topic in {"orderbook.1.BTCUSDT", "publicTrade.BTCUSDT"}]
    assert [d for d in together if d.topic in {untouched[0].topic, "publicTrade.BTCUSDT"}] == untouched


def test_a_rule_with_a_topic_meets_all_messages_of_it_and_no_other() -> None:
    for pattern, names in (
        ("publicTrade.*", {"publicTrade.BTCUSDT"}),
        ("orderbook.1.*", {"orderbook.1.BTCUSDT"}),
        ("*.200.BTCUSDT", {"orderbook.200.BTCUSDT"}),
    ):
        deliveries, told = injected(MESSAGES, kind="drop", every=2, topic=pattern)
        assert {injection.topic for injection in told} == names
        assert {d.topic for d in deliveries if not d.sent} == names


def test_random_faults_are_seeded_and_about_so_far_apart() -> None:
    plan = FaultPlan(random_every_s=0.05, seed=4)
    deliveries, told = planned(plan, MESSAGES)
    assert (deliveries, told) == planned(plan, MESSAGES)
    assert told != planned(FaultPlan(random_every_s=0.05, seed=5), MESSAGES)[1]
    lasting_s = (MESSAGES[-1].receive_ns - MESSAGES[0].receive_ns) * 1e-9
    assert lasting_s / 0.05 / 2.5 < len(told) <= lasting_s / 0.05 * 2
    assert len({injection.kind for injection in told}) > 5
    unheard: list[Injection] = []
    injector = FaultInjector(plan, on_injection=unheard.append, is_heard=lambda _: False)
    assert list(injector.inject(iter(MESSAGES))) == MESSAGES
    assert unheard == []


def test_several_rules_and_random_faults_keep_the_market_s_own_books() -> None:
    rules = tuple(FaultRule(kind=kind, probability=0.1) for kind in KINDS)
    deliveries, told = planned(FaultPlan(rules=rules, random_every_s=0.05, seed=1), MESSAGES)
    assert len({injection.kind for injection in told}) > len(KINDS) * 2 // 3
    for topic in ("orderbook.50.BTCUSDT", "orderbook.200.BTCUSDT"):
        follower = ExchangeBook()
        for book, delivery in zip(
            books([d.market for d in deliveries if d.topic == topic]),
            (d for d in deliveries if d.topic == topic),
            strict=True,
        ):
            follower.apply(delivery.market)
            assert (follower.update_id, follower.digest) == (book.update_id, book.digest)


# --- what each fault does


def test_wire_faults_one_by_one() -> None:
    frames, numbers = texts(CLEAN), update_ids(texts(CLEAN))
    at = 11  # the delivery taken by after=10

    def sent(kind: str, **more: Any) -> list[bytes]:
        return texts(injected(kind=kind, after=10, **more)[0])

    assert sent("drop") == frames[:at] + frames[at + 1 :]
    assert sent("duplicate") == frames[: at + 1] + frames[at:]
    assert sent("reorder") == [*frames[:at], frames[at + 1], frames[at], *frames[at + 2 :]]
    late = [*frames[:at], *frames[at + 1 : at + 4], frames[at], *frames[at + 4 :]]
    assert sent("late", frames=3) == late
    cut_short = sent("truncated")[at]
    assert frames[at].startswith(cut_short)
    assert cut_short != frames[at]
    large = sent("oversized", bytes=10_000)[at]
    assert len(large) > 10_000
    assert json.loads(large) == json.loads(frames[at])
    leapt = [json.loads(frame) for frame in sent("clock", seconds=-7.5, frames=4)]
    for i, (frame, message) in enumerate(zip(frames, leapt, strict=True)):
        clean = json.loads(frame)
        leap_ms = -7_500 if at <= i < at + 4 else 0
        assert (message["ts"], message["cts"]) == (clean["ts"] + leap_ms, clean["cts"] + leap_ms)
        assert message["data"] == clean["data"]
    stalled = update_ids(sent("stall", seconds=0.3))
    assert stalled == [*numbers[:at], *stalled[at:]]
    assert 10 < numbers.index(stalled[at]) - at < 20  # 0.3 s at 20 ms
    (binary,) = injected(kind="binary", after=10)[0][at].sent
    assert isinstance(binary, BinaryMessage)
    assert len(binary.content) == 64
    assert injected(kind="fragments", after=10, frames=3)[0][at].sent == (FragmentedMessage(frames[at], 3),)
    assert injected(kind="cut", after=10)[0][at].sent == (CutMessage(frames[at]),)
    assert injected(kind="refuse", after=10)[0][at].sent == (frames[at], RefuseConnections(2.0))


@given(seed=st.integers(0, 200))
@settings(max_examples=60, deadline=None)
def test_a_malformed_delta_can_be_taken_for_no_right_one(seed: int) -> None:
    bad = texts(injected(kind="malformed", after=10, seed=seed)[0])[11]
    try:
        message = json.loads(bad)
    except ValueError:
        return
    levels = message["data"]["b"] + message["data"]["a"]
    assert any(price in {"none", "-1"} or size in {"-1", "NaN"} for price, size in levels)


def test_a_restart_counts_from_one_and_again_from_the_market_s_own_start() -> None:
    twice = [*CLEAN, *CLEAN]
    deliveries, _ = injected(twice, kind="restart", after=10)
    numbers = update_ids(texts(deliveries))
    own = update_ids(texts(CLEAN))
    assert numbers == [*own[:11], *range(1, len(own) - 10), *own]
    assert json.loads(deliveries[11].market)["type"] == "snapshot"


def test_a_crossed_and_an_empty_side_last_for_one_update() -> None:
    crossed, _ = injected(kind="crossed", after=10)
    emptied, _ = injected(kind="one-sided", after=10)
    for i, (one, other) in enumerate(
        zip(books([d.market for d in crossed]), books([d.market for d in emptied]), strict=True)
    ):
        assert (max(one.sides[0]) >= min(one.sides[1])) == (i == 11)
        assert (not all(other.sides)) == (i == 11)


# --- subscriptions


def test_an_opening_delta_comes_before_the_snapshot_that_holds_it() -> None:
    plan = FaultPlan(rules=(FaultRule(kind="delta-first", times=2, every=1),))
    told: list[Injection] = []
    injector = FaultInjector(plan, on_injection=told.append)
    deliveries = list(injector.inject(iter(CLEAN)))
    delta, snapshot = deliveries[0].sent
    assert isinstance(delta, bytes)
    assert isinstance(snapshot, bytes)
    assert [json.loads(frame)["type"] for frame in (delta, snapshot)] == ["delta", "snapshot"]
    assert update_ids([delta]) == [update_ids([snapshot])[0] - 1]
    assert snapshot == CLEAN[0].market
    assert deliveries[1:] == CLEAN[1:]
    assert len(injector.opening(TOPIC, CLEAN[0].market)) == 2
    assert injector.opening(TOPIC, CLEAN[0].market) == (CLEAN[0].market,)
    assert len(told) == 2


def test_rejections_follow_their_rule() -> None:
    plan = FaultPlan(rules=(FaultRule(kind="reject", every=2, topic="orderbook.50.*"),))
    injector = FaultInjector(plan)
    assert [injector.rejects([TOPIC]) for _ in range(4)] == [False, True, False, True]
    assert [injector.rejects(["orderbook.200.BTCUSDT"]) for _ in range(4)] == [False] * 4


def test_what_cannot_be_injected_is_not_counted() -> None:
    only_deltas = CLEAN[1:]  # the book is never known
    for kind in TRUE_KINDS:
        deliveries, told = injected(only_deltas, kind=kind, every=5)
        assert (deliveries, told) == (only_deltas, [])
    assert WIRE_KINDS.isdisjoint(TRUE_KINDS)
