"""What a subscription decides, second by second, without a socket."""

import math
from random import Random
from typing import Any

from serve.binance_stream import DepthTopic
from serve.feed_policies import RefusalPolicy, ResyncPolicy, SnapshotPolicy
from serve.reconnect import ReconnectPolicy
from serve.subscription import Step, Subscription
from serve.venue_stream import Reply


class Book:
    """A consumer whose book is as the test says."""

    keeps_book = True
    reason = "gap in the book's sequence"
    unreadable_frames = 0

    def __init__(self) -> None:
        self.needs_resync = False
        self.awaits_snapshot = True
        self.events: list[str] = []

    def lose(self) -> None:
        self.needs_resync = self.awaits_snapshot = True

    def on_connected(self) -> None:
        self.events.append("connected")

    def on_disconnected(self, reason: str) -> None:
        self.events.append(reason)

    def on_frame(self, frame: bytes, receive_ns: int) -> None: ...

    def on_unnamed_frame(self, frame: bytes, receive_ns: int, *, readable: bool) -> None: ...

    def check_freshness(self, now_ns: int) -> None: ...

    def resync_requested(self) -> None:
        self.needs_resync = False


def make(*, apart: bool = True, **policies: object) -> tuple[Subscription, Book]:
    book = Book()
    settings: dict[str, Any] = {
        "snapshot": SnapshotPolicy() if apart else None,
        "resync": ResyncPolicy(),
        "refusal": RefusalPolicy(),
        "reconnect": ReconnectPolicy(jitter=0),
    }
    one = Subscription(DepthTopic(symbol="BTCUSDT"), book, random=Random(1), **(settings | policies))
    one.on_connected()
    return one, book


def fetch(one: Subscription, book: Book, now_s: float, *, again: bool) -> None:
    """A snapshot is asked for, and comes at once."""
    one.on_asked("", now_s, again=again, fetching=True)
    assert one.next_step(now_s) == (Step.NOTHING, math.inf)  # one at a time
    book.awaits_snapshot = book.needs_resync = False
    assert one.on_fetched(None, now_s) == ""


def test_snapshots_in_a_row_are_fetched_ever_more_seldom_until_it_is_hopeless() -> None:
    one, book = make()
    now_s = 0.0
    fetch(one, book, now_s, again=False)
    waits_s = []
    for _ in range(5):
        book.lose()
        assert one.obstacle(now_s) == ""
        step, due_s = one.next_step(now_s)
        assert step is Step.NOTHING
        waits_s.append(due_s - now_s)
        now_s = due_s
        assert one.next_step(now_s) == (Step.RESYNC, due_s)
        fetch(one, book, now_s, again=True)
    assert waits_s == [1, 1, 2, 4, 8]
    assert one.obstacle(now_s) == ""  # it may hold
    book.lose()
    assert one.obstacle(now_s) == "5 new snapshots in a row did not hold: gap in the book's sequence"


def test_a_book_that_held_begins_the_row_anew() -> None:
    one, book = make()
    fetch(one, book, 0.0, again=False)
    for now_s in (1.0, 2.0, 4.0, 8.0, 16.0):
        book.lose()
        assert one.next_step(now_s)[0] is Step.RESYNC
        fetch(one, book, now_s, again=True)
    book.lose()
    assert one.obstacle(26.0) == ""  # after ten seconds
    assert one.next_step(26.0)[0] is Step.RESYNC


def test_where_a_subscription_brings_the_snapshot_the_interval_stays() -> None:
    one, book = make(apart=False)
    for number in range(1, 20):
        one.on_asked(str(number), float(number), again=True)
        one.on_reply(Reply(request_id=str(number), success=True), float(number))
        book.awaits_snapshot = False  # it came
        assert one.obstacle(float(number)) == ""
        book.lose()
        assert one.next_step(float(number)) == (Step.NOTHING, number + 1.0)
        assert one.obstacle(float(number)) == ""


def test_the_interval_never_grows_beyond_its_bound_nor_overflows() -> None:
    policy = SnapshotPolicy()
    assert [policy.interval_s(1.0, n) for n in (0, 1, 2, 6, 7, 10**9)] == [1, 1, 2, 30, 30, 30]
    assert policy.interval_s(60.0, 1) == 60  # a longer first one counts


def test_a_topic_is_unheeded_from_the_first_request_since_its_last_frame() -> None:
    one, book = make()
    fetch(one, book, 0.0, again=False)
    assert one.unheeded_s(50.0) == 0  # never asked for again
    one.pushed_s = 50.0
    for now_s in (55.0, 60.0, 65.0):
        book.lose()
        fetch(one, book, now_s, again=True)
    assert one.unheeded_s(66.0) == 11.0
    one.pushed_s = 67.0
    assert one.unheeded_s(70.0) == 0
    book.lose()
    fetch(one, book, 75.0, again=True)
    assert one.unheeded_s(80.0) == 5.0


def test_an_answer_that_is_no_snapshot_is_a_refusal() -> None:
    one, book = make()
    one.on_asked("", 0.0, again=False, fetching=True)
    assert one.on_fetched(None, 0.5) == "what it answers is no snapshot of this book"
    assert one.counters.refusals == 1
    assert one.next_step(0.5) == (Step.NOTHING, 0.75)
    assert one.next_step(0.75) == (Step.SUBSCRIBE, 0.75)
    one.on_asked("", 0.75, again=False, fetching=True)
    book.lose()  # it was one, and does not join the stream: lost like any other book
    assert one.on_fetched(None, 1.0) == ""
    assert one.counters.refusals == 1
    assert one.next_step(1.75)[0] is Step.RESYNC


def test_the_exchange_is_left_alone_for_as_long_as_it_asks() -> None:
    one, _ = make()
    one.on_asked("", 0.0, again=False, fetching=True)
    refusal = Reply(request_id="", success=False, message="HTTP 429", retry_after_s=60.0)
    assert one.on_fetched(refusal, 0.5) == "HTTP 429"
    assert one.next_step(60.0) == (Step.NOTHING, 60.5)
    assert one.obstacle(60.0) == ""  # which is nothing that another connection would mend


def test_a_refusal_of_several_topics_has_each_asked_for_alone_at_once() -> None:
    """Whatever it says: of which of them it is true is not known."""
    one, book = make(apart=False)
    one.on_asked("1", 0.0, again=False, joined=True)
    one.on_reply(Reply(request_id="1", success=False, message="Invalid symbol :[ETHUSDT]"), 0.2)
    assert (one.refused, one.asks_alone, one.pending_id) == ("", True, "")
    assert one.counters.refusals == 0
    assert one.next_step(0.2) == (Step.SUBSCRIBE, 0.2)
    one.on_asked("2", 0.3, again=False)
    one.on_reply(Reply(request_id="2", success=False, message="system busy"), 0.4)
    assert one.counters.refusals == 1
    assert one.next_step(0.4)[0] is Step.NOTHING  # its own refusal: asked for again after a wait
    one.on_connected()
    assert one.asks_alone  # until it is taken: others would be refused with it again
    one.on_asked("3", 1.0, again=False)
    one.on_reply(Reply(request_id="3", success=True), 1.1)
    assert not one.asks_alone
    assert book.events == ["connected", "connected"]


def test_its_own_request_after_a_joined_one_is_refused_as_ever() -> None:
    one, book = make(apart=False)
    one.on_asked("1", 0.0, again=False, joined=True)
    one.on_asked("2", 11.0, again=True)  # the first was never answered
    one.on_reply(Reply(request_id="2", success=False, message="Invalid symbol :[BTCUSDT]"), 11.1)
    assert one.refused == "the exchange refuses btcusdt@depth@100ms: Invalid symbol :[BTCUSDT]"
    assert book.events == ["connected", one.refused]


def test_a_refused_new_subscription_is_left_before_it_is_asked_for_again() -> None:
    """The exchange may have refused to leave the topic, and then says that it is subscribed already."""
    one, _ = make(apart=False)
    one.on_asked("1", 0.0, again=False)
    left_at_first = one.leaves_first
    assert not left_at_first
    one.on_reply(Reply(request_id="1", success=True), 0.1)
    one.on_asked("2", 5.0, again=True)
    one.on_reply(Reply(request_id="2", success=False, message="already subscribed"), 5.1)
    assert one.next_step(6.0)[0] is Step.SUBSCRIBE
    assert one.leaves_first
    one.on_asked("4", 6.0, again=False)
    one.on_reply(Reply(request_id="4", success=True), 6.1)
    assert not one.leaves_first
