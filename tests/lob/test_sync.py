"""Sequencing against sets of changes, and the states of a symbol against the table written out."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lob.sync import (
    LOST_BOOK,
    REASONS,
    TRANSITIONS,
    LifecycleEvent,
    SymbolLifecycle,
    SymbolState,
    Verdict,
    sequence_verdict,
)

IDS = range(6)
LOST_BY_NAME = sorted(LOST_BOOK, key=lambda event: event.name)


def test_snapshots_are_always_applied() -> None:
    for last, update, usable, joined in product(IDS, IDS, (False, True), (False, True)):
        verdict = sequence_verdict(True, update, update, -1, last, usable, joined)
        assert verdict == Verdict.APPLY_SNAPSHOT


def test_changes_wait_for_a_snapshot() -> None:
    for last, first, update, previous in product(IDS, IDS, IDS, (-1, *IDS)):
        assert sequence_verdict(False, first, update, previous, last, False, False) == Verdict.WAIT


@pytest.mark.parametrize("joined", [False, True])
def test_ranges_of_changes_leave_none_out(joined: bool) -> None:
    """Bybit (ranges of one) and Binance spot: the book holds changes 1 to `last`, the message its range."""
    for last, first in product(IDS, range(1, 6)):
        for update in range(first, 6):
            held, brought = set(range(1, last + 1)), set(range(first, update + 1))
            if brought <= held:
                expected = Verdict.IGNORE
            elif held | brought == set(range(1, update + 1)):
                expected = Verdict.APPLY_DELTA
            else:
                expected = Verdict.GAP
            assert sequence_verdict(False, first, update, -1, last, True, joined) == expected


def test_messages_that_name_their_predecessor_chain() -> None:
    """Binance futures, once joined: the next message names the last one, whatever numbers lie between."""
    for last, first, update, previous in product(IDS, IDS, IDS, IDS):
        if update <= last:
            expected = Verdict.IGNORE
        else:
            expected = Verdict.APPLY_DELTA if previous == last else Verdict.GAP
        assert sequence_verdict(False, first, update, previous, last, True, True) == expected


def test_first_message_after_a_futures_snapshot_covers_it() -> None:
    """Binance, "How to manage a local order book": drop u < lastUpdateId; first U <= lastUpdateId <= u."""
    for last, first, previous in product(IDS, IDS, IDS):
        for update in range(first, 6):
            if update < last:
                expected = Verdict.IGNORE
            elif first <= last <= update or previous == last:
                expected = Verdict.APPLY_DELTA
            else:
                expected = Verdict.GAP
            assert sequence_verdict(False, first, update, previous, last, True, False) == expected


CONNECTING, WAITING, WARMING, LIVE, STALE = SymbolState
COLUMNS = [CONNECTING, WAITING, WARMING, LIVE, STALE]
LOST = [CONNECTING, WAITING, WAITING, STALE, STALE]
TABLE = {  # the state after each event, by the state before it, in the order of COLUMNS
    LifecycleEvent.CONNECTED: [WAITING] * 5,
    LifecycleEvent.DISCONNECTED: [CONNECTING] * 5,
    LifecycleEvent.SNAPSHOT: [CONNECTING, WARMING, WARMING, WARMING, WARMING],
    LifecycleEvent.ENGINE_WARM: [CONNECTING, WAITING, LIVE, LIVE, STALE],
    LifecycleEvent.ONE_SIDED: [CONNECTING, WAITING, WARMING, WARMING, STALE],
    LifecycleEvent.GAP: LOST,
    LifecycleEvent.REFUSED: LOST,
    LifecycleEvent.CROSSED: LOST,
    LifecycleEvent.MALFORMED: LOST,
    LifecycleEvent.OVERFLOW: LOST,
    LifecycleEvent.NOT_FINITE: LOST,
    LifecycleEvent.STALLED: LOST,
    LifecycleEvent.LATE: LOST,
}


def test_table_of_states() -> None:
    expected = {
        (before, event): after
        for event, row in TABLE.items()
        for before, after in zip(COLUMNS, row, strict=True)
    }
    assert expected == TRANSITIONS
    assert set(REASONS) == set(LifecycleEvent)


def test_values_are_what_subscribers_read() -> None:
    assert [state.value for state in SymbolState] == [
        "connecting",
        "waiting_snapshot",
        "warming",
        "live",
        "stale",
    ]


def lifecycle_after(*events: LifecycleEvent) -> SymbolLifecycle:
    lifecycle = SymbolLifecycle()
    for event in events:
        lifecycle.on(event)
    return lifecycle


UP = (LifecycleEvent.CONNECTED, LifecycleEvent.SNAPSHOT, LifecycleEvent.ENGINE_WARM)


def test_begins_unconnected() -> None:
    lifecycle = SymbolLifecycle()
    assert (lifecycle.state, lifecycle.reason, lifecycle.needs_resync) == (
        CONNECTING,
        "not yet connected",
        False,
    )


@pytest.mark.parametrize("lost", LOST_BY_NAME)
def test_lost_book_leaves_live_and_asks_for_a_snapshot(lost: LifecycleEvent) -> None:
    lifecycle = lifecycle_after(*UP)
    assert (lifecycle.state, lifecycle.reason) == (LIVE, "")
    assert lifecycle.on(lost, "u 7 after 5")
    assert (lifecycle.state, lifecycle.reason) == (STALE, f"{REASONS[lost]}: u 7 after 5")
    assert lifecycle.needs_resync
    lifecycle.resync_requested()
    assert not lifecycle.needs_resync
    assert lifecycle.on(LifecycleEvent.SNAPSHOT)
    assert lifecycle.state is WARMING
    assert lifecycle.on(LifecycleEvent.ENGINE_WARM)
    assert (lifecycle.state, lifecycle.reason) == (LIVE, "")


def test_one_sided_book_comes_back_without_a_snapshot() -> None:
    lifecycle = lifecycle_after(*UP)
    assert lifecycle.on(LifecycleEvent.ONE_SIDED)
    assert (lifecycle.state, lifecycle.reason) == (WARMING, "one side of the book is empty")
    assert not lifecycle.needs_resync
    assert lifecycle.on(LifecycleEvent.ENGINE_WARM)
    assert lifecycle.state is LIVE


def test_reason_stays_that_of_leaving_live() -> None:
    lifecycle = lifecycle_after(*UP, LifecycleEvent.GAP)
    assert not lifecycle.on(LifecycleEvent.STALLED)
    assert (lifecycle.state, lifecycle.reason) == (STALE, REASONS[LifecycleEvent.GAP])


def test_reason_for_still_waiting_is_the_newest() -> None:
    lifecycle = lifecycle_after(LifecycleEvent.CONNECTED)
    assert lifecycle.on(LifecycleEvent.MALFORMED)
    assert (lifecycle.state, lifecycle.reason) == (WAITING, REASONS[LifecycleEvent.MALFORMED])
    assert lifecycle.needs_resync
    assert not lifecycle.on(LifecycleEvent.MALFORMED)


def test_nothing_is_asked_of_a_lost_connection() -> None:
    lifecycle = lifecycle_after(*UP, LifecycleEvent.GAP)
    assert lifecycle.on(LifecycleEvent.DISCONNECTED, "code 1006")
    assert (lifecycle.state, lifecycle.reason) == (CONNECTING, "connection lost: code 1006")
    assert not lifecycle.needs_resync
    assert not lifecycle.on(LifecycleEvent.STALLED)
    assert not lifecycle.needs_resync


@given(st.lists(st.sampled_from(LifecycleEvent), max_size=40))
def test_live_only_with_a_sound_book_and_a_warm_engine(events: list[LifecycleEvent]) -> None:
    lifecycle = SymbolLifecycle()
    sound = warm = asked = False
    for event in events:
        told = (lifecycle.state, lifecycle.reason)
        changed = lifecycle.on(event)
        assert changed == (told != (lifecycle.state, lifecycle.reason))
        if event is LifecycleEvent.SNAPSHOT:
            sound, warm = told[0] is not CONNECTING, False
        elif event in LOST_BOOK or event in {LifecycleEvent.CONNECTED, LifecycleEvent.DISCONNECTED}:
            sound = warm = False
        elif event is LifecycleEvent.ONE_SIDED:
            warm = False
        elif event is LifecycleEvent.ENGINE_WARM:
            warm = sound
        assert (lifecycle.state is LIVE) == (sound and warm)
        if event in LOST_BOOK and lifecycle.state is not CONNECTING:
            asked = True
        elif event in {LifecycleEvent.SNAPSHOT, LifecycleEvent.CONNECTED, LifecycleEvent.DISCONNECTED}:
            asked = False
        assert lifecycle.needs_resync == asked
        assert lifecycle.reason or lifecycle.state is LIVE
