"""The named policies of a feed: what it does about refusals, lost books, silence and lateness."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from inference.pipeline import DEFAULT_STALL_MS
from lob.errors import InputError


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
