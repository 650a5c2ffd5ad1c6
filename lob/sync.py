"""Is a book message next in its sequence, and may a symbol's predictions be published: both pure.

`sequence_verdict` judges one message by its update numbers. `SymbolLifecycle` is the state of a symbol as
subscribers see it; it holds no clock and does no I/O: whoever drives it says what happened and acts on the
state it answers.
"""

from enum import Enum, IntEnum, auto

from lob.kernel import kernel


class Verdict(IntEnum):
    """What to do with a book message."""

    APPLY_SNAPSHOT = 0
    APPLY_DELTA = 1
    IGNORE = 2
    WAIT = 3
    GAP = 4


@kernel
def sequence_verdict(
    is_snapshot: bool,
    first_update_id: int,
    update_id: int,
    previous_update_id: int,
    last_update_id: int,
    usable: bool,
    joined: bool,
) -> int:
    """The `Verdict`, as an int, on a message, given the book's last update.

    `usable` says that the book is in sequence, `joined` that a delta was applied since its snapshot. Levels
    are absolute sizes, so a delta that overlaps what is already applied is sound; one that starts later is a
    gap.

    Venues that count single changes and name the range (Binance spot `U`..`u`; Bybit, where both are `u`):
    the next delta starts at last + 1. Venues that name the previous message (Binance futures `pu`): the next
    delta names the last one; only the first after a snapshot is found by range, as its snapshot falls
    anywhere. Sources: Bybit v5 "Orderbook"; Binance "How to manage a local order book correctly", spot and
    USD-M.
    """
    if is_snapshot:
        return Verdict.APPLY_SNAPSHOT.value
    if not usable:
        return Verdict.WAIT.value
    if previous_update_id < 0:
        if update_id <= last_update_id:
            return Verdict.IGNORE.value
        return Verdict.APPLY_DELTA.value if first_update_id <= last_update_id + 1 else Verdict.GAP.value
    if joined:
        if update_id <= last_update_id:
            return Verdict.IGNORE.value
        return Verdict.APPLY_DELTA.value if previous_update_id == last_update_id else Verdict.GAP.value
    if update_id < last_update_id:
        return Verdict.IGNORE.value
    if previous_update_id == last_update_id or first_update_id <= last_update_id:
        return Verdict.APPLY_DELTA.value
    return Verdict.GAP.value


class SymbolState(Enum):
    """What a symbol's predictions are worth now; only LIVE ones are published."""

    CONNECTING = "connecting"
    WAITING_SNAPSHOT = "waiting_snapshot"
    WARMING = "warming"
    LIVE = "live"
    STALE = "stale"


class LifecycleEvent(Enum):
    """What can happen to a symbol."""

    CONNECTED = auto()
    DISCONNECTED = auto()
    SNAPSHOT = auto()
    ENGINE_WARM = auto()
    GAP = auto()
    REFUSED = auto()
    CROSSED = auto()
    ONE_SIDED = auto()
    MALFORMED = auto()
    OVERFLOW = auto()
    STALLED = auto()
    LATE = auto()
    NOT_FINITE = auto()


LOST_BOOK = frozenset(
    {
        LifecycleEvent.GAP,
        LifecycleEvent.REFUSED,
        LifecycleEvent.CROSSED,
        LifecycleEvent.MALFORMED,
        LifecycleEvent.OVERFLOW,
        LifecycleEvent.STALLED,
        LifecycleEvent.LATE,
        LifecycleEvent.NOT_FINITE,
    }
)
"""Events after which nothing is published until a new snapshot: book, rows and model start again from it."""

REASONS = {
    LifecycleEvent.CONNECTED: "waiting for a snapshot of the book",
    LifecycleEvent.DISCONNECTED: "connection lost",
    LifecycleEvent.SNAPSHOT: "engine warming up since the snapshot",
    LifecycleEvent.ENGINE_WARM: "",
    LifecycleEvent.GAP: "gap in the book's sequence",
    LifecycleEvent.REFUSED: "the snapshot does not fit the stream",
    LifecycleEvent.CROSSED: "crossed book",
    LifecycleEvent.ONE_SIDED: "one side of the book is empty",
    LifecycleEvent.MALFORMED: "malformed book message",
    LifecycleEvent.OVERFLOW: "more levels than the book holds",
    LifecycleEvent.STALLED: "feed stalled",
    LifecycleEvent.LATE: "feed is late",
    LifecycleEvent.NOT_FINITE: "model produced non-finite values",
}


def _transitions() -> dict[tuple[SymbolState, LifecycleEvent], SymbolState]:
    """The whole table: every state answers every event."""
    state, event = SymbolState, LifecycleEvent
    table = {(before, happened): before for before in state for happened in event}
    for before in state:
        table[before, event.CONNECTED] = state.WAITING_SNAPSHOT
        table[before, event.DISCONNECTED] = state.CONNECTING
        if before is not state.CONNECTING:  # a frame of a connection that is gone brings nothing back
            table[before, event.SNAPSHOT] = state.WARMING
    for lost in LOST_BOOK:
        table[state.WARMING, lost] = state.WAITING_SNAPSHOT
        table[state.LIVE, lost] = state.STALE
    table[state.WARMING, event.ENGINE_WARM] = state.LIVE
    table[state.LIVE, event.ONE_SIDED] = state.WARMING
    return table


TRANSITIONS = _transitions()


class SymbolLifecycle:
    """The state of one symbol, why it is in it, and whether a new snapshot must be asked for.

    `needs_resync` rises with an event that spoils the book and falls when the caller says that it asked
    (`resync_requested`), when a snapshot comes, or when the connection is lost or new. A book with one side
    empty is in sequence: it goes back to LIVE with the next prediction (ENGINE_WARM), without a resync.
    """

    def __init__(self) -> None:
        self.state = SymbolState.CONNECTING
        self.reason = "not yet connected"
        self.needs_resync = False

    def on(self, event: LifecycleEvent, detail: str = "") -> bool:
        """Take an event in; answers whether state or reason changed, so that subscribers must be told.

        `detail` is added to the reason, for example the close code of a lost connection.
        """
        before, reason_before = self.state, self.reason
        self.state = TRANSITIONS[before, event]
        if event in LOST_BOOK:
            self.needs_resync = before is not SymbolState.CONNECTING
        elif event in {LifecycleEvent.CONNECTED, LifecycleEvent.DISCONNECTED, LifecycleEvent.SNAPSHOT}:
            self.needs_resync = False
        if self.state is not before or self._explains(event):
            self.reason = f"{REASONS[event]}: {detail}" if detail else REASONS[event]
        return self.state is not before or self.reason != reason_before

    def resync_requested(self) -> None:
        """The caller has asked the venue for a new snapshot."""
        self.needs_resync = False

    def _explains(self, event: LifecycleEvent) -> bool:
        """Whether an event that left the state alone is still the better reason for it."""
        if self.state is SymbolState.WAITING_SNAPSHOT:
            return event in LOST_BOOK
        if self.state is SymbolState.WARMING:
            return event in {LifecycleEvent.ONE_SIDED, LifecycleEvent.SNAPSHOT}
        return self.state is SymbolState.CONNECTING and event is LifecycleEvent.DISCONNECTED
