"""The named policies of a feed: what it does about refusals, lost books, silence and lateness."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from inference.pipeline import DEFAULT_STALL_MS
from lob.errors import InputError
from serve.rate_bound import RequestRate


@dataclass(frozen=True, kw_only=True)
class RefusalPolicy:
    """Which refusals of a subscription are final: those whose text holds one of these words.

    Any other is answered by asking for the topic again, after the reconnect policy's wait.
    """

    final_words: tuple[str, ...] = ("invalid symbol", "invalid topic", "handler not found")

    def is_final(self, message: str) -> bool:
        """Whether there is no use in asking again."""
        return any(words in message.lower() for words in self.final_words)


@dataclass(frozen=True, kw_only=True)
class ResyncPolicy:
    """How often a topic's snapshot may be asked for, and how long it may take.

    However often a topic's book is lost, its snapshot is asked for at most once in `minimum_interval_s`. One
    that does not come in `snapshot_timeout_s`, or whose request is not answered in
    `acknowledgement_timeout_s`, is asked for again, for that topic alone; where no topic of the connection
    gets any further the connection is given up.
    """

    minimum_interval_s: float = 1.0
    snapshot_timeout_s: float = 5.0
    acknowledgement_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        for name in ("minimum_interval_s", "snapshot_timeout_s", "acknowledgement_timeout_s"):
            check_above_zero(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class SilencePolicy:
    """What is done where a stream has stopped although its connection answers pings.

    A stall is answered by a new snapshot first. A topic that is lost again, and brought no frame for
    `after_s` since that first request, is silent: where no other topic of the connection brought a frame for
    as long either, the connection is replaced; among living ones it is left and subscribed again alone.
    """

    after_s: float = 5.0

    def __post_init__(self) -> None:
        check_above_zero("after_s", self.after_s)


@dataclass(frozen=True, kw_only=True)
class SnapshotPolicy:
    """How often snapshots are fetched where they come apart from the stream.

    `rate` bounds those of all topics and connections together. A snapshot of 1,000 levels weighs 50 on
    Binance's spot market, which allows 6,000 a minute, and 20 on USD-M futures, which allow 2,400: the
    default takes at most two thirds of either in the first minute and half afterwards. An exchange that asks
    to be left alone is, for as long as it says.

    The resync policy's `minimum_interval_s` grows by `factor` with every snapshot in a row of one topic, up
    to `maximum_interval_s`; a book that held for `settled_s` ends the row. Where `hopeless_after` in a row
    did not hold, the topic does not get any further.
    """

    rate: RequestRate = field(default_factory=lambda: RequestRate(burst=20, per_s=1.0))
    factor: float = 2.0
    maximum_interval_s: float = 30.0
    settled_s: float = 10.0
    hopeless_after: int = 5

    def __post_init__(self) -> None:
        check_above_zero("settled_s", self.settled_s)
        check_above_zero("maximum_interval_s", self.maximum_interval_s)
        if not self.factor >= 1:
            raise InputError(f"factor: {self.factor} came, at least 1 is allowed")
        if self.hopeless_after < 1:
            raise InputError(f"hopeless_after: {self.hopeless_after} came, 1 or more is allowed")

    def interval_s(self, first_s: float, requests_in_a_row: int) -> float:
        """Seconds from the last request to the next, after so many in a row; at least `first_s`."""
        # The exponent is bounded so that a counter which ran for years cannot overflow a float.
        grown_s = first_s * self.factor ** min(max(requests_in_a_row - 1, 0), 64)
        return max(first_s, min(self.maximum_interval_s, grown_s))


@dataclass(frozen=True, kw_only=True)
class IdlePolicy:
    """When a connection that brings nothing at all is taken for dead.

    After `probe_after_s` without a single frame a ping is sent; after `answer_within_s` more without one,
    not even its answer, the connection is given up. So a quiet market is told from a dead connection. Apart
    from that a ping goes out every `ping_interval_s`, as Bybit advises.
    """

    probe_after_s: float = 5.0
    answer_within_s: float = 5.0
    ping_interval_s: float = 20.0

    def __post_init__(self) -> None:
        for name in ("probe_after_s", "answer_within_s", "ping_interval_s"):
            check_above_zero(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class StallPolicy:
    """How long a symbol may go without a book message, while the connection lives, before it is stale.

    `by_symbol` sets it for single symbols, thin ones for example; `after_ms` holds for the others.
    """

    after_ms: int = DEFAULT_STALL_MS
    by_symbol: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (("after_ms", self.after_ms), *self.by_symbol.items()):
            if value < 1:
                raise InputError(f"stall {name}: {value} ms came, 1 or more is allowed")

    def of(self, symbol: str) -> int:
        """The milliseconds that hold for `symbol`."""
        return self.by_symbol.get(symbol, self.after_ms)


@dataclass(frozen=True, kw_only=True)
class LagPolicy:
    """How late a frame may be handled before its book counts as lost; None sets no limit.

    `maximum_wait_ms` bounds the time from a frame's arrival in the process to its prediction: both are read
    from one clock, so it is always meaningful, and on. `maximum_lag_ms` bounds how much later than usual a
    frame is, by the exchange's time in it (see `serve.lateness`): it sees what waits in the network too, and
    needs an exchange whose clock runs as ours does; a replay's does not at any pace but its own, so it is
    off by default.
    """

    maximum_wait_ms: int | None = 1_000
    maximum_lag_ms: int | None = None

    def __post_init__(self) -> None:
        for name in ("maximum_wait_ms", "maximum_lag_ms"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name}: {value} came, 1 or more or None is allowed")


def check_above_zero(name: str, value: float) -> None:
    """Raises InputError where a setting is not above 0."""
    if not value > 0:
        raise InputError(f"{name}: {value} came, above 0 is allowed")
