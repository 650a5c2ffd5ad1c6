"""Playing a market to its subscribers in its own time: one clock a market, one timeline a topic of it.

The market starts with the first subscription to any of its topics and goes on whoever comes and goes. Who is
there from the start gets the market's frames byte for byte; who comes later gets a snapshot of the exchange's
own book first.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from lob.bybit import is_whole_book
from lob.errors import CaptureError, InputError
from serve.exchange_book import ExchangeBook
from serve.faults import Delivery, Fault, TopicFrames, faultless
from serve.outbox import Outbox
from serve.wire_faults import RefuseConnections

logger = logging.getLogger(__name__)

Ending = Literal["idle", "close", "loop"]
"""What comes after a market's last frame: silence, the end of its connections, or the start again."""

FRAMES_AT_A_TIME = 32
"""Frames sent without a pause before other tasks get their turn."""

LOOP_PAUSE_S = 0.02
"""Between the last frame and the first of the next round, at recorded pace."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast a timeline runs: `speed` times the recorded pace; None: as fast as its subscribers take it.

    At a set speed the market waits for nobody. Raises InputError where the speed is not a positive number.
    """

    speed: float | None = 1.0

    def __post_init__(self) -> None:
        if self.speed is not None and not (math.isfinite(self.speed) and self.speed > 0):
            raise InputError(f"speed: {self.speed} came; allowed: a number above 0, or max")

    @classmethod
    def read(cls, text: str) -> "Pace":
        """The pace that a command line names: a number, or `max`."""
        if text == "max":
            return cls(speed=None)
        try:
            return cls(speed=float(text))
        except ValueError as error:
            raise InputError(f"speed: {text!r} came; allowed: a number above 0, or max") from error


class Subscription:
    """One connection's place among a timeline's subscribers."""

    __slots__ = ("outbox",)

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox


class Timeline:
    """One topic of a market: the exchange's own book of it, and its subscribers.

    `on_applied` is called after each frame of the market that the book has followed.
    """

    def __init__(self, topic: str, player: "Player", on_applied: Callable[["Timeline"], None] | None) -> None:
        self.topic = topic
        self.played = 0
        """Frames of the topic so far."""
        self.book = ExchangeBook()
        self._player = player
        self._on_applied = on_applied
        self._subscriptions: dict[Subscription, None] = {}

    @property
    def is_running(self) -> bool:
        """From the market's first subscription until its frames are used up for good."""
        return self._player.is_running

    @property
    def is_heard(self) -> bool:
        """Whether anybody subscribes to the topic."""
        return bool(self._subscriptions)

    def join(self, outbox: Outbox) -> Subscription:
        """Subscribe a connection: the first one starts the market, a later one gets a snapshot at once.

        A whole book's changes begin with the next one: its snapshot is asked for by another way.
        """
        subscription = Subscription(outbox)
        if self.book.is_known and not is_whole_book(self.topic):
            for frame in self._player.opening(self.topic, self.book.snapshot()):
                outbox.answer(frame)
        self._subscriptions[subscription] = None
        self._player.start()
        return subscription

    def leave(self, subscription: Subscription) -> None:
        """End a subscription; nothing more is sent to it."""
        self._subscriptions.pop(subscription, None)
        self._player.left()

    async def stop(self) -> None:
        """Stop the market, all its topics."""
        await self._player.stop()

    async def deliver(self, delivery: Delivery, *, patiently: bool) -> None:
        """Let the book follow the market and the subscribers have what is sent, waiting for room for it."""
        self.book.apply(delivery.market)
        self.played += 1
        if self._on_applied is not None:
            self._on_applied(self)
        for subscription in tuple(self._subscriptions):  # those who join meanwhile have it in their snapshot
            for sent in delivery.sent:
                if subscription not in self._subscriptions:
                    break
                if patiently:
                    await subscription.outbox.put(sent)
                else:
                    subscription.outbox.offer(sent)


class Player:
    """One market on its clock. All its calls belong to one event loop.

    `open_frames` gives the market's frames from the start; `on_end` is called when they are used up for good,
    with the error where one is the reason (CaptureError: a damaged capture). `opening` makes what a later
    subscriber is sent first of a snapshot; `on_refusal` is told for how many seconds connections are to be
    refused. The players of one exchange share `opening_turn`: making a market's first frame takes so long
    that hundreds of them in a row would keep every connection waiting.
    """

    def __init__(
        self,
        topics: Sequence[str],
        open_frames: Callable[[], TopicFrames],
        *,
        pace: Pace,
        ending: Ending = "idle",
        faults: tuple[Fault, ...] = (),
        opening: Callable[[str, bytes], Sequence[bytes]] = lambda _, snapshot: (snapshot,),
        on_applied: Callable[[Timeline], None] | None = None,
        on_refusal: Callable[[float], None] = lambda _: None,
        on_end: Callable[[Exception | None], None] | None = None,
        opening_turn: asyncio.Lock | None = None,
    ) -> None:
        self.timelines = {topic: Timeline(topic, self, on_applied) for topic in topics}
        self.is_running = False
        self.opening = opening
        self._open_frames = open_frames
        self._pace = pace
        self._ending = ending
        self._faults = faults
        self._on_refusal = on_refusal
        self._on_end = on_end
        self._opening_turn = opening_turn or asyncio.Lock()
        self._played = 0
        self._somebody = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Somebody has subscribed: begin, unless the market has begun."""
        self._somebody.set()
        if self._task is None:
            self.is_running = True
            self._task = asyncio.create_task(self._run(), name=f"player {', '.join(self.timelines)}")

    def left(self) -> None:
        """Somebody has gone."""
        if not any(timeline.is_heard for timeline in self.timelines.values()):
            self._somebody.clear()

    async def stop(self) -> None:
        """Stop the market."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        failure: Exception | None = None
        names = ", ".join(self.timelines)
        try:
            while True:
                played_before = self._played
                await self._play()
                if self._ending != "loop" or self._played == played_before:
                    break
                await asyncio.sleep(LOOP_PAUSE_S if self._pace.speed is not None else 0)
        except CaptureError as error:
            logger.error("%s ends early: %s", names, error)  # noqa: TRY400 - the message says it all
            failure = error
        except Exception as error:  # a defect, of which the connections' tasks would not learn
            logger.exception("%s ends early", names)
            failure = error
        logger.info("%s: all %d frames are played", names, self._played)
        self.is_running = False
        if self._on_end is not None:
            self._on_end(failure)

    async def _play(self) -> None:
        """The market once, from its first frame to its last."""
        clock = asyncio.get_running_loop().time
        deliveries = faultless(self._open_frames())
        for fault in self._faults:
            deliveries = fault(deliveries)
        async with self._opening_turn:
            await asyncio.sleep(0)  # else the next one would have its turn before the connections have theirs
            first = next(deliveries, None)
        if first is None:
            return
        start_s, first_ns = clock(), first.receive_ns
        for delivery in chain((first,), deliveries):
            wait_s = 0.0
            if self._pace.speed is None:
                await self._somebody.wait()
            else:
                # Due by the market's own clock, counted from its first frame, so that no delay adds up.
                due_s = start_s + (delivery.receive_ns - first_ns) * 1e-9 / self._pace.speed
                wait_s = due_s - clock()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            elif self._played % FRAMES_AT_A_TIME == 0:
                await asyncio.sleep(0)
            self._played += 1
            timeline = self.timelines[delivery.topic]
            await timeline.deliver(delivery, patiently=self._pace.speed is None)
            for sent in delivery.sent:
                if isinstance(sent, RefuseConnections):
                    self._on_refusal(sent.seconds)
