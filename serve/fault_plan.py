"""Which faults are injected, where and when: read from options or a script, or drawn at random.

A rule meets the deltas of order-book topics, each topic on its own; with a `topic` it meets all messages of
the topics of that name or pattern. Of what it meets it passes over the first `after`, then takes every
`every`-th, or each with `probability`, or the first from `at` seconds on; with none of the three it takes
one. `times` bounds how often. Seconds are those of the subscriber's clock, at any speed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec

from lob.bybit import is_whole_book
from lob.errors import InputError

KINDS = {
    "drop": "a delta is not sent",
    "duplicate": "a delta is sent twice",
    "reorder": "a delta is sent after the next one",
    "late": "a delta is sent after `frames` others",
    "delta-first": "a new subscription gets a delta before its snapshot",
    "restart": "the service restarts: a snapshot with u 1, and counting goes on from there",
    "snapshot": "a snapshot in place of a delta",
    "crossed": "one delta crosses the book, the next one mends it",
    "one-sided": "one delta empties a side, the next one fills it again",
    "malformed": "a delta with a level or a syntax that cannot be",
    "truncated": "a delta that ends in the middle of its text",
    "oversized": "a delta with so much white space that it is larger than `bytes`",
    "binary": "a binary message in place of a delta",
    "fragments": "a delta in `frames` websocket frames",
    "stall": "a topic is silent for `seconds`, and what it would have said is never sent",
    "freeze": "the connection is silent for `seconds`, pongs included; then all of it comes at once",
    "drip": "for `seconds` the connection's bytes come a few at a time",
    "close": "the connection ends with a close frame",
    "abort": "the connection ends without a close frame",
    "cut": "the connection ends in the middle of a message",
    "refuse": "all connections end, and new ones are refused for `seconds`",
    "reject": "a subscription is answered with success:false",
    "old-snapshot": "a request for a whole book is answered with one of some time ago",
    "failed-snapshot": "a request for a whole book is answered with HTTP 500",
    "clock": "`ts` and `cts` leap by `seconds`, which may be negative, for `frames` deltas",
}
"""What can be injected."""

TRUE_KINDS = frozenset({"restart", "snapshot", "crossed", "one-sided"})
"""Faults of the market itself: the exchange's own book has them too."""

SNAPSHOT_KINDS = ("failed-snapshot", "old-snapshot")
"""Faults that meet requests for whole books' snapshots, which no other topic has."""

SUBSCRIPTION_KINDS = frozenset({"delta-first", "reject", *SNAPSHOT_KINDS})
"""Faults that meet subscriptions or requests and not messages."""

_IN_STREAM_KINDS = frozenset({"delta-first", "snapshot"})
"""Faults by a snapshot in the stream, where a whole book has none."""

WIRE_KINDS = frozenset(KINDS) - TRUE_KINDS - SUBSCRIPTION_KINDS

DEFAULT_SECONDS = {"stall": 2.0, "freeze": 2.0, "drip": 1.0, "refuse": 2.0, "clock": -5.0}
DEFAULT_FRAMES = {"late": 5, "fragments": 5, "clock": 50}
DEFAULT_BYTES = {"oversized": 5 * 1024 * 1024}

MAXIMUM_BYTES = 256 * 1024 * 1024
"""Of an oversized message: it is made in memory."""


def is_possible(kind: str, topic: str) -> bool:
    """Whether a fault of `kind` can befall `topic`."""
    return kind not in (_IN_STREAM_KINDS if is_whole_book(topic) else SNAPSHOT_KINDS)


@dataclass(frozen=True, kw_only=True)
class FaultRule:
    """One kind of fault and when it happens. Raises InputError where a field is outside what is allowed."""

    kind: str
    topic: str | None = None
    every: int | None = None
    after: int = 0
    probability: float | None = None
    at: float | None = None
    times: int | None = None
    seconds: float | None = None
    frames: int | None = None
    bytes: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"fault: {self.kind!r} came; allowed: {', '.join(KINDS)}")
        for name, least in (("every", 1), ("after", 0), ("times", 1), ("frames", 1), ("bytes", 1)):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < least):
                raise InputError(f"{self.kind}: {name}: {value} came; allowed: whole numbers from {least}")
        if self.bytes is not None and self.bytes > MAXIMUM_BYTES:
            raise InputError(f"{self.kind}: bytes: {self.bytes} came; allowed: at most {MAXIMUM_BYTES}")
        for name in ("probability", "at", "seconds"):
            value = getattr(self, name)
            if value is not None and (type(value) not in {int, float} or not math.isfinite(value)):
                raise InputError(f"{self.kind}: {name}: {value} came; allowed: a finite number")
        if self.probability is not None and not 0 < self.probability <= 1:
            raise InputError(f"{self.kind}: probability: {self.probability} came; allowed: above 0, to 1")
        if self.at is not None and self.at < 0:
            raise InputError(f"{self.kind}: at: {self.at} came; allowed: 0 and above")
        if self.seconds is not None and self.kind != "clock" and self.seconds <= 0:
            raise InputError(f"{self.kind}: seconds: {self.seconds} came; allowed: above 0")
        if self.topic is not None and type(self.topic) is not str:
            raise InputError(f"{self.kind}: topic: {self.topic!r} came; allowed: a topic or a pattern")
        for name, defaults in (
            ("seconds", DEFAULT_SECONDS),
            ("frames", DEFAULT_FRAMES),
            ("bytes", DEFAULT_BYTES),
        ):
            if getattr(self, name) is not None and self.kind not in defaults:
                raise InputError(f"{name}: came for {self.kind}; allowed: for {', '.join(defaults)}")
        if sum(value is not None for value in (self.every, self.probability, self.at)) > 1:
            raise InputError(f"{self.kind}: every, probability, at: several came; allowed: one or none")

    def meets(self, topic: str, *, delta: bool) -> bool:
        """Whether the rule is about such a message: a delta, or any of a topic that it names itself."""
        if self.topic is None:
            return delta
        return fnmatchcase(topic, self.topic) and (delta or self.kind in WIRE_KINDS)

    def is_possible_at(self, topic: str) -> bool:
        """Whether the rule can ever meet something of `topic`."""
        return is_possible(self.kind, topic) and (self.topic is None or fnmatchcase(topic, self.topic))

    @property
    def lasting_s(self) -> float:
        """For how many seconds; of the clock: by how many."""
        return DEFAULT_SECONDS.get(self.kind, 0.0) if self.seconds is None else self.seconds

    @property
    def lasting_frames(self) -> int:
        """For, after or in how many frames."""
        return DEFAULT_FRAMES.get(self.kind, 0) if self.frames is None else self.frames

    @property
    def size_bytes(self) -> int:
        """What an oversized message is larger than."""
        return DEFAULT_BYTES.get(self.kind, 0) if self.bytes is None else self.bytes


@dataclass(frozen=True, kw_only=True)
class FaultPlan:
    """All that is injected: the rules, and with `random_every_s` one fault at random in so many seconds.

    The random ones are drawn for each market on its own, for a topic that somebody subscribes to, about that
    long apart. The same seed gives the same faults for the same stream.
    """

    rules: tuple[FaultRule, ...] = ()
    random_every_s: float | None = None
    random_kinds: tuple[str, ...] = tuple(KINDS)
    seed: int = 0

    def __post_init__(self) -> None:
        every_s = self.random_every_s
        if every_s is not None and not (math.isfinite(every_s) and every_s > 0):
            raise InputError(f"fault_every: {every_s} came; allowed: a number of seconds above 0")
        for kind in self.random_kinds:
            FaultRule(kind=kind)

    def check_topics(self, topics: Sequence[str]) -> None:
        """Raise InputError where a rule, or every random kind, is about none of the topics served."""
        for rule in self.rules:
            if not any(map(rule.is_possible_at, topics)):
                about = rule.kind if rule.topic is None else f"{rule.kind}:topic={rule.topic}"
                raise InputError(
                    f"fault: {about} came, which can befall none of the topics served ({', '.join(topics)})"
                )
        if self.random_every_s is not None and not any(
            is_possible(kind, topic) for kind in self.random_kinds for topic in topics
        ):
            raise InputError(
                f"fault_kind: {', '.join(self.random_kinds)} came, "
                f"which can befall none of the topics served ({', '.join(topics)})"
            )

    @property
    def is_empty(self) -> bool:
        """Whether nothing is ever injected."""
        return not self.rules and self.random_every_s is None

    @property
    def kinds(self) -> frozenset[str]:
        """Which kinds may be injected."""
        random = self.random_kinds if self.random_every_s is not None else ()
        return frozenset({*(rule.kind for rule in self.rules), *random})

    @property
    def needs_book(self) -> bool:
        """Whether a fault may need the market's whole book."""
        return bool(self.kinds & TRUE_KINDS)


_NAMES = [one.name for one in fields(FaultRule) if one.name != "kind"]
_WHOLE = {"every", "after", "times", "frames", "bytes"}


def read_rule(text: str) -> FaultRule:
    """The rule that an option names, as `drop:every=100,after=50`; raises InputError."""
    kind, _, settings = text.partition(":")
    values: dict[str, Any] = {}
    for setting in filter(None, settings.split(",")):
        name, _, value = setting.partition("=")
        if name not in _NAMES:
            raise InputError(f"fault: {name!r} came in {text!r}; allowed: {', '.join(_NAMES)}")
        if name in values:
            raise InputError(f"fault: {name} came twice in {text!r}; allowed: each name once")
        try:
            values[name] = value if name == "topic" else int(value) if name in _WHOLE else float(value)
        except ValueError as error:
            raise InputError(f"fault: {setting!r} came in {text!r}; allowed: a number for {name}") from error
    return FaultRule(kind=kind, **values)


def read_script(path: Path) -> tuple[FaultRule, ...]:
    """The rules in a file: a JSON object a line, or one JSON list of objects, `{"fault":"drop","every":9}`.

    Raises InputError naming the file and the line or the place in the list.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a script of faults ({error})") from error
    try:
        if text.lstrip().startswith("["):
            places = [(f"item {i + 1}", item) for i, item in enumerate(msgspec.json.decode(text))]
        else:
            lines = [(i + 1, line) for i, line in enumerate(text.splitlines()) if line.strip()]
            places = []
            for i, line in lines:
                places.append((f"line {i}", msgspec.json.decode(line)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: {error}; allowed: JSON objects, one a line or in one list") from error
    rules = []
    for place, item in places:
        if type(item) is not dict or type(item.get("fault")) is not str or set(item) - {"fault", *_NAMES}:
            raise InputError(
                f"{path}: {place}: {item!r} came; allowed: an object of fault and {', '.join(_NAMES)}"
            )
        try:
            rules.append(FaultRule(kind=item.pop("fault"), **item))
        except InputError as error:
            raise InputError(f"{path}: {place}: {error}") from error
    return tuple(rules)
