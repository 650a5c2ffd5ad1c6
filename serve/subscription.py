"""One topic's subscription on a connection: what was asked, what is owed, what to do next.

It does no I/O and holds no clock: the feed sends what `next_step` says and tells it what came, and when.
"""

import math
from dataclasses import dataclass
from enum import Enum, auto
from random import Random
from typing import Protocol

from lob.errors import InputError
from serve.feed_policies import RefusalPolicy, ResyncPolicy
from serve.reconnect import ReconnectPolicy
from serve.venue_stream import Reply, Topic


class FrameConsumer(Protocol):
    """Takes a topic's frames in; everything is synchronous and short.

    Frames that name no topic go to every consumer: replies, and what cannot be read and may have been
    anybody's.
    """

    @property
    def needs_resync(self) -> bool:
        """Whether the book is lost and nobody has asked for a new snapshot yet."""

    @property
    def awaits_snapshot(self) -> bool:
        """Whether nothing can be made of the stream until a snapshot comes."""

    def on_connected(self) -> None:
        """A new connection stands; its first book message will be a snapshot."""

    def on_disconnected(self, reason: str) -> None:
        """The connection is lost, or this topic is refused on it; `reason` is for people."""

    def on_frame(self, frame: bytes, receive_ns: int) -> None:
        """One message, as it came. May raise ConnectionEndedError to have the connection given up."""

    def check_freshness(self, now_ns: int) -> object:
        """It is `now_ns`: decide whether the stream has stalled."""

    def resync_requested(self) -> None:
        """A new snapshot has been asked for."""


class Step(Enum):
    """What a subscription needs next."""

    NOTHING = auto()
    SUBSCRIBE = auto()
    RESYNC = auto()


@dataclass
class TopicCounters:
    """What happened to one topic so far."""

    frames: int = 0
    bytes: int = 0
    resyncs: int = 0
    refusals: int = 0


class Subscription:
    """One topic and its consumer, over all connections."""

    def __init__(
        self,
        topic: Topic,
        consumer: FrameConsumer,
        *,
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
        self._resync = resync
        self._refusal = refusal
        self._reconnect = reconnect
        self._random = random
        self._refusals_in_a_row = 0
        self._begin()

    def _begin(self) -> None:
        self.noticed = False
        self.pending_id = ""
        self._asked_s = -math.inf
        self._subscribe_at_s = -math.inf
        self._unanswered_since_s = math.inf
        self._owed_since_s: float | None = None  # the snapshot

    def on_connected(self) -> None:
        """A new connection stands, with nothing subscribed."""
        self._begin()
        self.consumer.on_connected()

    def on_asked(self, request_id: str, now_s: float, *, again: bool) -> None:
        """The topic's snapshot has been asked for; `again`: in place of a book that is lost.

        `request_id` is empty where the request is not answered by an acknowledgement.
        """
        self._asked_s = now_s
        self._subscribe_at_s = math.inf
        if request_id:
            self._unanswered_since_s = min(self._unanswered_since_s, now_s)
        self.noticed = False
        self.pending_id = request_id
        if again:
            self.counters.resyncs += 1
            self.consumer.resync_requested()

    def on_reply(self, reply: Reply, now_s: float) -> None:
        """The answer to the pending request came."""
        self.pending_id = ""
        self._unanswered_since_s = math.inf
        if reply.success:
            self._refusals_in_a_row = 0
            return
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
        self._subscribe_at_s = now_s + delay_s

    def obstacle(self, now_s: float) -> str:
        """Why the subscription does not get any further; empty while it does, or may yet.

        Asking again does not do away with it: an answer does, or a snapshot.
        """
        policy = self._resync
        if self.refused:
            return self.refused
        if not self.consumer.awaits_snapshot:
            self._owed_since_s = None
        elif self._owed_since_s is None:
            self._owed_since_s = now_s
        if now_s - self._unanswered_since_s > policy.acknowledgement_timeout_s:
            return f"no answer to the subscription in {policy.acknowledgement_timeout_s:g} s"
        if self._owed_since_s is not None and now_s - self._owed_since_s > policy.snapshot_timeout_s:
            return f"no snapshot in {policy.snapshot_timeout_s:g} s"
        return ""

    def next_step(self, now_s: float) -> tuple[Step, float]:
        """What to do now, and when to ask again at the latest (infinity: only after something happened)."""
        if self.refused:
            return Step.NOTHING, math.inf
        if self._subscribe_at_s < math.inf:
            due_s = self._subscribe_at_s
            return (Step.SUBSCRIBE if now_s >= due_s else Step.NOTHING), due_s
        policy = self._resync
        if self.consumer.needs_resync:
            wait_s = policy.minimum_interval_s
        else:
            self.noticed = False
            if not self.obstacle(now_s):
                return Step.NOTHING, math.inf
            unanswered = self._unanswered_since_s < math.inf
            wait_s = policy.acknowledgement_timeout_s if unanswered else policy.snapshot_timeout_s
            wait_s = max(wait_s, policy.minimum_interval_s)
        due_s = self._asked_s + wait_s
        return (Step.RESYNC if now_s >= due_s else Step.NOTHING), due_s
