"""Playing a topic's market to its subscribers in its own time: one timeline a topic.

The timeline starts with the first subscription and goes on whoever comes and goes. Who is there from the
start gets the market's frames byte for byte; who comes later gets a snapshot of the exchange's own book
first.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from lob.captures import CapturedFrame
from lob.errors import CaptureError, InputError
from serve.exchange_book import ExchangeBook
from serve.faults import Fault, faultless
from serve.outbox import Outbox

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
    """One topic's market. All its calls belong to one event loop.

    `open_frames` gives the market's frames from the start; `on_end` is called when they are used up for good,
    with the error where one is the reason (CaptureError: a damaged capture).
    """

    def __init__(
        self,
        topic: str,
        open_frames: Callable[[], Iterable[CapturedFrame]],
        *,
        pace: Pace,
        ending: Ending = "idle",
        faults: tuple[Fault, ...] = (),
        on_end: Callable[[Exception | None], None] | None = None,
    ) -> None:
        self.topic = topic
        self.played = 0
        """Frames of the market so far."""
        self.is_running = False
        """From the first subscription until the frames are used up for good."""
        self.book = ExchangeBook()
        self._open_frames = open_frames
        self._pace = pace
        self._ending = ending
        self._faults = faults
        self._on_end = on_end
        self._subscriptions: dict[Subscription, None] = {}
        self._somebody = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def join(self, outbox: Outbox) -> Subscription:
        """Subscribe a connection: the first one starts the market, a later one gets a snapshot at once."""
        subscription = Subscription(outbox)
        if self.book.is_known:
            outbox.answer(self.book.snapshot())
        self._subscriptions[subscription] = None
        self._somebody.set()
        if self._task is None:
            self.is_running = True
            self._task = asyncio.create_task(self._run(), name=f"timeline {self.topic}")
        return subscription

    def leave(self, subscription: Subscription) -> None:
        """End a subscription; nothing more is sent to it."""
        self._subscriptions.pop(subscription, None)
        if not self._subscriptions:
            self._somebody.clear()

    async def stop(self) -> None:
        """Stop the market."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        failure: Exception | None = None
        try:
            while True:
                played_before = self.played
                await self._play()
                if self._ending != "loop" or self.played == played_before:
                    break
                await asyncio.sleep(LOOP_PAUSE_S if self._pace.speed is not None else 0)
        except CaptureError as error:
            logger.error("%s ends early: %s", self.topic, error)  # noqa: TRY400 - the message says it all
            failure = error
        except Exception as error:  # a defect, of which the connections' tasks would not learn
            logger.exception("%s ends early", self.topic)
            failure = error
        logger.info("%s: all %d frames are played", self.topic, self.played)
        self.is_running = False
        if self._on_end is not None:
            self._on_end(failure)

    async def _play(self) -> None:
        """The market once, from its first frame to its last."""
        clock = asyncio.get_running_loop().time
        deliveries = faultless(self._open_frames())
        for fault in self._faults:
            deliveries = fault(deliveries)
        start_s = clock()
        first_ns: int | None = None
        for delivery in deliveries:
            if first_ns is None:
                first_ns = delivery.receive_ns
            wait_s = 0.0
            if self._pace.speed is None:
                await self._somebody.wait()
            else:
                # Due by the market's own clock, counted from its first frame, so that no delay adds up.
                due_s = start_s + (delivery.receive_ns - first_ns) * 1e-9 / self._pace.speed
                wait_s = due_s - clock()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            elif self.played % FRAMES_AT_A_TIME == 0:
                await asyncio.sleep(0)
            await self._deliver(delivery.market, delivery.sent)

    async def _deliver(self, market: bytes, sent: tuple[bytes, ...]) -> None:
        self.book.apply(market)
        self.played += 1
        for subscription in tuple(self._subscriptions):  # those who join meanwhile have it in their snapshot
            for frame in sent:
                if subscription not in self._subscriptions:
                    break
                if self._pace.speed is None:
                    await subscription.outbox.put(frame)
                else:
                    subscription.outbox.offer(frame)
