"""Injecting a plan's faults into the streams of an exchange's markets.

`FaultInjector.inject` is a fault as any other: a function from stream to stream, one delivery out for each
one in. Faults of the market change what its own book follows too; faults of the wire change what is sent
alone. One fault at most meets one delivery.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random

import msgspec

from lob.bybit import is_whole_book
from serve.fault_plan import (
    SNAPSHOT_KINDS,
    SUBSCRIPTION_KINDS,
    TRUE_KINDS,
    FaultPlan,
    FaultRule,
    is_possible,
)
from serve.faults import Delivery, Sent, is_delta
from serve.frame_edits import (
    BookEdits,
    leapt,
    malformed,
    opening_delta,
    oversized,
    renumbered,
    truncated,
    update_id,
)
from serve.wire_faults import (
    AbortConnection,
    BinaryMessage,
    CloseConnection,
    CutMessage,
    DripConnection,
    FragmentedMessage,
    FreezeConnection,
    RefuseConnections,
)

BINARY_BYTES = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Injection:
    """One fault that was injected; `market_ns` is the market's time, `update_id` the delivery's `u`."""

    kind: str
    topic: str
    update_id: int
    market_ns: int
    heard: bool
    """Whether anybody subscribed to the topic."""


@dataclass
class _Rule:
    """A rule on one topic: how often it met something, how often it took it."""

    rule: FaultRule
    random: Random
    met: int = 0
    taken: int = 0

    def takes(self, elapsed_s: float) -> bool:
        """Whether the rule takes what it has just met."""
        rule = self.rule
        self.met += 1
        times = rule.times
        if times is None and rule.every is None and rule.probability is None:
            times = 1
        # Drawn at every meeting, so that what one rule takes moves no other's chances.
        lucky = rule.probability is None or self.random.random() < rule.probability
        if self.met <= rule.after or (times is not None and self.taken >= times) or not lucky:
            return False
        if rule.every is not None and (self.met - rule.after) % rule.every != 0:
            return False
        if rule.at is not None and elapsed_s < rule.at:
            return False
        self.taken += 1
        return True


@dataclass
class _Topic:
    """What faults have left of a topic's stream."""

    name: str
    rules: list[_Rule]
    random: Random
    edits: BookEdits | None
    offset: int = 0
    deliveries: int = 0
    held: list[tuple[int, Sent]] = field(default_factory=list)
    """Sent after the delivery of that number."""
    silent_until_s: float = 0.0
    leap_ms: int = 0
    leaps: int = 0


class FaultInjector:
    """The faults of one exchange.

    `speed` is the market's (None: that of its subscribers): it turns seconds of the plan into the market's.
    `on_injection` is told of each fault; `is_heard` says whether anybody subscribes to a topic.
    """

    def __init__(
        self,
        plan: FaultPlan,
        *,
        speed: float | None = 1.0,
        on_injection: Callable[[Injection], None] = lambda _: None,
        is_heard: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._plan = plan
        self._speed = speed or 1.0
        self._on_injection = on_injection
        self._is_heard = is_heard
        self._topics: dict[str, _Topic] = {}
        self._armed: Counter[str] = Counter()
        self._market_ns = 0
        self._elapsed_s = 0.0

    def inject(self, deliveries: Iterator[Delivery]) -> Iterator[Delivery]:
        """The stream of one market, with faults."""
        plan = self._plan
        first_ns: int | None = None
        random: Random | None = None
        random_due_s = 0.0
        for delivery in deliveries:
            topic = self._topic(delivery.topic)
            if first_ns is None or random is None:
                first_ns = delivery.receive_ns
                random = _random(plan.seed, "at random", delivery.topic)
                random_due_s = self._random_pause_s(random)
            self._market_ns = delivery.receive_ns
            elapsed_s = (delivery.receive_ns - first_ns) * 1e-9 / self._speed
            self._elapsed_s = elapsed_s
            delta = is_delta(delivery.market)
            chosen = None
            for one in topic.rules:
                if one.rule.kind in SUBSCRIPTION_KINDS or not is_possible(one.rule.kind, topic.name):
                    continue
                if is_whole_book(topic.name) and not delta:
                    continue  # the market's own snapshot, which is not sent
                if one.rule.meets(delivery.topic, delta=delta) and one.takes(elapsed_s):
                    chosen = chosen or one.rule
            if chosen is None and delta and elapsed_s >= random_due_s and self._is_heard(topic.name):
                random_due_s = elapsed_s + self._random_pause_s(random)
                kinds = [kind for kind in plan.random_kinds if is_possible(kind, topic.name)]
                chosen = FaultRule(kind=random.choice(kinds)) if kinds else None
                if chosen is not None and chosen.kind in SUBSCRIPTION_KINDS:
                    self._armed[chosen.kind] += 1
                    chosen = None
            yield self._delivered(topic, delivery, chosen, elapsed_s)

    def opening(self, topic_name: str, snapshot: bytes) -> Sequence[bytes]:
        """What a new subscription of a topic is sent first."""
        if is_whole_book(topic_name):
            return ()
        if not self._takes_subscription("delta-first", topic_name, update_id(snapshot)):
            return (snapshot,)
        return (opening_delta(snapshot), snapshot)

    def rejects(self, topics: Sequence[str]) -> bool:
        """Whether a request to subscribe to `topics` is to be refused."""
        taken = [self._takes_subscription("reject", topic, 0) for topic in topics]
        return any(taken)

    def snapshot_fault(self, topic: str, number: int) -> str:
        """The kind of the fault that a request for a topic's whole book meets; empty for none."""
        return next((kind for kind in SNAPSHOT_KINDS if self._takes_subscription(kind, topic, number)), "")

    def _topic(self, name: str) -> _Topic:
        topic = self._topics.get(name)
        if topic is None:
            seed = self._plan.seed
            rules = [_Rule(rule, _random(seed, str(i), name)) for i, rule in enumerate(self._plan.rules)]
            edits = BookEdits() if self._plan.needs_book and not name.startswith("publicTrade.") else None
            topic = self._topics[name] = _Topic(name, rules, _random(seed, "damage", name), edits)
        return topic

    def _random_pause_s(self, random: Random) -> float:
        every_s = self._plan.random_every_s
        return float("inf") if every_s is None else every_s * random.uniform(0.5, 1.5)

    def _takes_subscription(self, kind: str, topic_name: str, number: int) -> bool:
        taken = False
        for one in self._topic(topic_name).rules:
            if one.rule.kind == kind and (one.rule.topic is None or one.rule.meets(topic_name, delta=True)):
                taken = one.takes(self._elapsed_s) or taken
        if not taken and self._armed[kind] > 0:
            self._armed[kind] -= 1
            taken = True
        if taken:
            self._tell(kind, topic_name, number)
        return taken

    def _tell(self, kind: str, topic_name: str, number: int) -> None:
        self._on_injection(
            Injection(
                kind=kind,
                topic=topic_name,
                update_id=number,
                market_ns=self._market_ns,
                heard=self._is_heard(topic_name),
            )
        )

    def _delivered(
        self, topic: _Topic, delivery: Delivery, rule: FaultRule | None, elapsed_s: float
    ) -> Delivery:
        kind = rule.kind if rule is not None else ""
        if kind in {"crossed", "one-sided"} and topic.edits is not None and topic.edits.is_pending:
            kind = ""
        market = self._market(topic, delivery.market, kind)
        if market is None:
            kind, market = "", renumbered(delivery.market, topic.offset)
        # What an earlier fault already sends in place of the frame stays as it is.
        sent = (market,) if delivery.sent == (delivery.market,) else delivery.sent
        if topic.deliveries == 0 and topic.name.startswith("orderbook.") and not is_delta(market):
            sent = tuple(self.opening(topic.name, market))
        topic.deliveries += 1
        if rule is not None and kind and kind not in TRUE_KINDS:
            sent = self._damaged(topic, rule, sent, market, elapsed_s)
        if topic.held:
            due = [frame for number, frame in topic.held if number < topic.deliveries]
            topic.held = [waiting for waiting in topic.held if waiting[0] >= topic.deliveries]
            sent = (*sent, *due)
        if topic.leaps:
            topic.leaps -= 1
            sent = tuple(leapt(one, topic.leap_ms) if isinstance(one, bytes) else one for one in sent)
        if elapsed_s < topic.silent_until_s:
            sent = tuple(one for one in sent if isinstance(one, RefuseConnections))
        if kind:
            self._tell(kind, topic.name, update_id(market))
        return replace(delivery, market=market, sent=sent)

    def _market(self, topic: _Topic, frame: bytes, kind: str) -> bytes | None:
        """The market's frame with the market's faults; None where the fault `kind` cannot be."""
        edits = topic.edits
        if edits is None:
            return frame
        delta = is_delta(frame)
        if not delta and topic.offset:
            topic.offset = 0  # the market itself begins anew
        edits.follow(frame, keep=kind == "one-sided")
        edited: bytes | None = frame
        if kind in {"restart", "snapshot"}:
            edited = edits.whole(restarted=kind == "restart")
            if kind == "restart" and edited is not None:
                topic.offset = update_id(frame) - 1
                return edited
        elif edits.is_pending:  # by a fault of the market that came just before
            edited = edits.mended(frame)
        elif kind == "crossed":
            edited = edits.crossed(frame, topic.random)
        elif kind == "one-sided":
            edited = edits.emptied(frame, topic.random)
        return None if edited is None else renumbered(edited, topic.offset)

    def _damaged(
        self, topic: _Topic, rule: FaultRule, sent: tuple[Sent, ...], market: bytes, elapsed_s: float
    ) -> tuple[Sent, ...]:
        """What is sent under a fault of the wire."""
        random = topic.random
        match rule.kind:
            case "drop":
                return ()
            case "duplicate":
                return (*sent, *sent)
            case "reorder":
                topic.held += [(topic.deliveries, one) for one in sent]
                return ()
            case "late":
                topic.held += [(topic.deliveries + rule.lasting_frames - 1, one) for one in sent]
                return ()
            case "malformed":
                return (_malformed(market, random),)
            case "truncated":
                return (truncated(market, random),)
            case "oversized":
                return (oversized(market, rule.size_bytes),)
            case "binary":
                return (BinaryMessage(random.randbytes(BINARY_BYTES)),)
            case "fragments":
                return (FragmentedMessage(market, rule.lasting_frames),)
            case "stall":
                topic.silent_until_s = elapsed_s + rule.lasting_s
            case "freeze":
                return (FreezeConnection(rule.lasting_s), *sent)
            case "drip":
                return (DripConnection(rule.lasting_s), *sent)
            case "close":
                return (*sent, CloseConnection())
            case "abort":
                return (*sent, AbortConnection())
            case "cut":
                return (CutMessage(market),)
            case "refuse":
                return (*sent, RefuseConnections(rule.lasting_s))
            case "clock":
                topic.leap_ms, topic.leaps = round(rule.lasting_s * 1000), rule.lasting_frames
        return sent


def _malformed(frame: bytes, random: Random) -> bytes:
    try:
        return malformed(frame, random)
    except (msgspec.DecodeError, UnicodeDecodeError):  # no book's
        return frame.replace(b'"data":', b'"data":{', 1)


def _random(seed: int, *names: str) -> Random:
    """Chances of their own for each use, so that no topic's course depends on another's."""
    return Random("|".join([str(seed), *names]))  # noqa: S311  # chance, no secret
