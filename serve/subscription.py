"""One topic's subscription on a connection: what was asked, what is owed, what to do next.

It does no I/O and holds no clock: the connection sends what `next_step` says and tells it what came, and
when.
"""

import math
from enum import Enum, auto
from random import Random

from lob.errors import InputError
from serve.feed_counters import TopicCounters
from serve.feed_policies import RefusalPolicy, ResyncPolicy, SnapshotPolicy
from serve.frame_consumer import FrameConsumer
from serve.reconnect import ReconnectPolicy
from serve.venue_stream import Reply, Topic


class Step(Enum):
    """What a subscription needs next."""

    NOTHING = auto()
    SUBSCRIBE = auto()
    RESYNC = auto()


class Subscription:
    """One topic and its consumer, over all connections.

    `snapshot` is the policy for snapshots fetched beside the stream, None where a subscription brings them.
    """

    def __init__(
        self,
        topic: Topic,
        consumer: FrameConsumer,
        *,
        snapshot: SnapshotPolicy | None,
        resync: ResyncPolicy,
        refusal: RefusalPolicy,
        reconnect: ReconnectPolicy,
        random: Random,
    ) -> None:
        self.topic = topic
        self.consumer = consumer
        self.counters = TopicCounters()
        self.refused = ""
        """Why the exchange does not have the topic; empty where it may."""
        self.noticed = False
        """Whether the one who sends requests knows that the book is lost."""
        self.pending_id = ""
        """The request that is not answered yet."""
        self.joined = False
        """Whether that request names other topics too."""
        self.asks_alone = False
        """Whether the topic is to have a request of its own: one that named others too was refused."""
        self.fetching = False
        """Whether a snapshot is being fetched beside the stream."""
        self.is_subscribed = False
        """Whether the exchange has taken the topic by request on this connection."""
        self.snapshot_due = False
        """Whether the topic's next frame is to have its snapshot fetched."""
        self.leaves_first = False
        """Whether a request for the topic leaves it first, as the exchange may count it as subscribed."""
        self.pushed_s = -math.inf
        """When the connection last brought a frame of the topic."""
        self._snapshot = snapshot
        self._resync = resync
        self._refusal = refusal
        self._reconnect = reconnect
        self._random = random
        self._refusals_in_a_row = 0
        self._begin()

    def _begin(self) -> None:
        self.noticed = self.fetching = self.leaves_first = False
        self.is_subscribed = self.snapshot_due = False
        self.pending_id = ""
        self.pushed_s = -math.inf
        self._asked_s = -math.inf
        self._subscribe_at_s = -math.inf
        self._unanswered_since_s = math.inf
        self._owed_since_s: float | None = None  # the snapshot
        self._lost_since_s: float | None = None  # the book
        self._refused_because = ""  # what came in place of the snapshot that is owed
        self._resyncs_in_a_row = 0
        self._unheeded_since_s = math.inf

    def on_connected(self) -> None:
        """A new connection stands, with nothing subscribed."""
        self._begin()
        self.consumer.on_connected()

    def on_asked(
        self, request_id: str, now_s: float, *, again: bool, fetching: bool = False, joined: bool = False
    ) -> None:
        """The topic's snapshot has been asked for; `again`: in place of a book that is lost.

        `request_id` is empty where nothing was sent that is answered by an acknowledgement; `fetching` where
        `on_fetched` will tell what came; `joined` where the request named other topics too.
        """
        self._asked_s = now_s
        self.joined = joined
        self._subscribe_at_s = math.inf
        self._lost_since_s = None
        self.noticed = False
        self.fetching = fetching
        if request_id:
            self._unanswered_since_s = min(self._unanswered_since_s, now_s)
            self.pending_id = request_id
            self.leaves_first |= again
        if again:
            if self.pushed_s >= self._unheeded_since_s or self._unheeded_since_s == math.inf:
                self._unheeded_since_s = now_s
            self._resyncs_in_a_row += 1
            self.counters.resyncs += 1
            self.consumer.resync_requested()

    def on_reply(self, reply: Reply, now_s: float) -> None:
        """The answer to the pending request came.

        What refuses several topics may be about any of them: it only has this one asked for alone, at once.
        """
        self.pending_id = ""
        self._unanswered_since_s = math.inf
        if reply.success:
            self.is_subscribed = True
            self.leaves_first = self.asks_alone = False
            self._refusals_in_a_row = 0
        elif self.joined:
            self.asks_alone = True
            self._subscribe_at_s = now_s
        else:
            self._on_refused(reply, now_s)

    def on_fetched(self, refusal: Reply | None, now_s: float) -> str:
        """Fetching the snapshot ended: the consumer has had it, unless there is a refusal.

        Answers why there is none, in words; empty where it came.
        """
        self.fetching = False
        consumer = self.consumer
        applies = self._snapshot is not None  # at once, and waits for no change of the stream
        if refusal is None and applies and consumer.awaits_snapshot and not consumer.needs_resync:
            answer = "what it answers is no snapshot of this book"
            refusal = Reply(request_id="", success=False, message=answer)
        if refusal is not None:
            self._on_refused(refusal, now_s)
            return refusal.message
        if not consumer.awaits_snapshot:  # else the book is lost again already
            self._refusals_in_a_row = 0
        return ""

    def _on_refused(self, reply: Reply, now_s: float) -> None:
        self.counters.refusals += 1
        reason = f"the exchange refuses {self.topic.name}: {reply.message}"
        if self._refusal.is_final(reply.message):
            self.refused = reason
            self.consumer.on_disconnected(reason)
            return
        delay_s = self._reconnect.delay_s(self._refusals_in_a_row, self._random)
        self._refusals_in_a_row += 1
        if self._reconnect.gives_up_after(self._refusals_in_a_row):
            raise InputError(f"given up after {self._refusals_in_a_row} attempts: {reason}")
        self._subscribe_at_s = now_s + max(delay_s, reply.retry_after_s or 0.0)

    def unheeded_s(self, now_s: float) -> float:
        """How long ago the topic was asked for again, where it has brought no frame since; else 0."""
        return max(0.0, now_s - self._unheeded_since_s) if self.pushed_s < self._unheeded_since_s else 0.0

    def obstacle(self, now_s: float) -> str:
        """Why the subscription does not get any further; empty while it does, or may yet.

        Asking again does not do away with it: an answer does, or a snapshot that holds.
        """
        if self.refused:
            return self.refused
        if self.consumer.needs_resync:
            self._note_loss(now_s)
            if self._snapshot is not None and self._resyncs_in_a_row >= self._snapshot.hopeless_after:
                return f"{self._resyncs_in_a_row} new snapshots in a row did not hold: {self.consumer.reason}"
        return self._overdue(now_s)

    def _overdue(self, now_s: float) -> str:
        """Which answer is overdue; empty where none is."""
        policy = self._resync
        # One that is fetched is owed by another than the connection, and `on_fetched` says what became of it.
        if not self.consumer.awaits_snapshot or self._snapshot is not None:
            self._owed_since_s = None
            self._refused_because = ""
        elif self._owed_since_s is None:
            self._owed_since_s = now_s
        if now_s - self._unanswered_since_s > policy.acknowledgement_timeout_s:
            return f"no answer to the subscription in {policy.acknowledgement_timeout_s:g} s"
        if self._owed_since_s is not None and now_s - self._owed_since_s > policy.snapshot_timeout_s:
            if self._refused_because:
                return f"no usable snapshot in {policy.snapshot_timeout_s:g} s: {self._refused_because}"
            return f"no snapshot in {policy.snapshot_timeout_s:g} s"
        return ""

    def lost_because(self, now_s: float) -> str:
        """Why a new snapshot is to be asked for, in words."""
        return self.consumer.reason if self.consumer.needs_resync else self._overdue(now_s)

    def next_step(self, now_s: float) -> tuple[Step, float]:
        """What to do now, and when to ask again at the latest (infinity: only after something happened)."""
        if self.refused or self.fetching:
            return Step.NOTHING, math.inf
        if self._subscribe_at_s < math.inf:
            due_s = self._subscribe_at_s
            return (Step.SUBSCRIBE if now_s >= due_s else Step.NOTHING), due_s
        policy = self._resync
        if self.consumer.needs_resync:
            self._note_loss(now_s)
            wait_s = policy.minimum_interval_s
            if self._snapshot is not None:
                wait_s = self._snapshot.interval_s(wait_s, self._resyncs_in_a_row)
        else:
            self.noticed = False
            if not self._overdue(now_s):
                return Step.NOTHING, math.inf
            unanswered = self._unanswered_since_s < math.inf
            wait_s = policy.acknowledgement_timeout_s if unanswered else policy.snapshot_timeout_s
            wait_s = max(wait_s, policy.minimum_interval_s)
        due_s = self._asked_s + wait_s
        return (Step.RESYNC if now_s >= due_s else Step.NOTHING), due_s

    def _note_loss(self, now_s: float) -> None:
        """The book is lost: see how long it held."""
        if self._lost_since_s is None:
            self._lost_since_s = now_s
            if self._owed_since_s is not None:
                self._refused_because = self.consumer.reason
            if self._snapshot is not None and now_s - self._asked_s >= self._snapshot.settled_s:
                self._resyncs_in_a_row = 0
