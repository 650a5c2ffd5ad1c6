"""One connection of a feed, from its opening to its end: reads it and keeps it alive.

Two tasks share it. One hands every frame to its topic's consumer. The other subscribes, pings, watches for
stalls, asks for snapshots, and gives the connection up when it serves nobody any longer.
"""

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from functools import partial

from lob.errors import InputError
from serve.bybit_stream import printable
from serve.clock import AnchoredClock
from serve.feed_config import FeedConfig
from serve.feed_counters import FeedCounters
from serve.frame_consumer import FrameBatch
from serve.frame_turns import Arrival, FrameTurns
from serve.heartbeat import Heartbeat
from serve.rate_bound import RateBound
from serve.subscription import Step, Subscription
from serve.turns import Turns
from serve.unreadable_frames import UnreadableFrames
from serve.venue_connection import ConnectionEndedError, StampedConnection
from serve.venue_stream import Operation, Reply, VenueStream

logger = logging.getLogger(__name__)

TOPICS_A_TURN = 32
"""Topics looked at between two turns of the event loop, a microsecond or two each."""


class RefusedSubscriptionError(InputError):
    """The exchange refuses every topic for good."""


class FeedConnection:
    """Serves `subscriptions`, by their topics' names, on one connection.

    `snapshot_bound` holds the fetches of all connections to a rate; `counters` and `unreadable` are the
    feed's. Without a `batch` frames that wait together are taken one after the other.
    """

    def __init__(
        self,
        connection: StampedConnection,
        subscriptions: Mapping[str, Subscription],
        *,
        config: FeedConfig,
        venue: VenueStream,
        clock: AnchoredClock,
        counters: FeedCounters,
        snapshot_bound: RateBound,
        unreadable: UnreadableFrames,
        batch: FrameBatch | None = None,
    ) -> None:
        self.ended_silent = False
        """Whether it was given up because it brought nothing."""
        self._connection = connection
        self._subscriptions = subscriptions
        self._all = tuple(subscriptions.values())
        # Trades come without a snapshot: that they flow does not mean that a book gets any further.
        self._deciding = tuple(one for one in self._all if one.consumer.keeps_book) or self._all
        self._frame_turns = FrameTurns(connection, subscriptions, venue.topic_prefix)
        self._batch = batch
        self._config = config
        self._venue = venue
        self._clock = clock
        self._counters = counters
        self._snapshot_bound = snapshot_bound
        self._request_bound = RateBound(venue.request_rate)
        self._unreadable = unreadable
        self._attention = asyncio.Event()
        self._last_request_id = 0
        self._now_s = asyncio.get_running_loop().time
        self._heartbeat = Heartbeat(connection, venue.ping_frame, config, counters)
        self._fetches: set[asyncio.Task[None]] = set()
        self._fetch_failure: Exception | None = None

    @property
    def waiting_frames(self) -> int:
        """Frames that have arrived and are not handled yet."""
        return self._connection.waiting + (self._frame_turns.held is not None)

    @property
    def pushed_s(self) -> float:
        """When it last brought a frame of any topic, on the event loop's clock."""
        return max(one.pushed_s for one in self._all)

    async def serve(self) -> None:
        """Read and keep the connection at once; raises what ends either."""
        tasks = [
            asyncio.create_task(self._read(), name="feed-read"),
            asyncio.create_task(self._keep(), name="feed-keep"),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            ended = [*tasks, *self._fetches]
            for task in ended:
                task.cancel()
            await asyncio.gather(*ended, return_exceptions=True)

    async def _read(self) -> None:
        """Hand every message over as it comes; never ends but by an exception."""
        connection, turns = self._connection, self._frame_turns
        least_waiting = math.inf if self._batch is None else self._batch.least_waiting
        while True:
            held = turns.held
            if held is None:
                frame, receive_ns = await connection.receive()
            else:
                frame, receive_ns = held
                turns.held = None
            one = turns.route(frame)
            waiting = connection.whole_messages
            if one is None:
                self._on_unrouted(frame, receive_ns)
            elif not waiting or not turns.several:
                one.pushed_s = self._count(frame)
                self._deliver(one, frame, receive_ns)
            elif waiting < least_waiting:
                await turns.take((one, frame, receive_ns), self._on_routed)
            else:
                together: list[Arrival] = []
                await turns.take((one, frame, receive_ns), together.append)
                self._on_together(together)
            # Messages that already wait are returned without a pause; give the hub's writers their turn.
            await asyncio.sleep(0)

    def _on_routed(self, arrival: Arrival) -> None:
        one, frame, receive_ns = arrival
        one.pushed_s = self._count(frame)
        self._deliver(one, frame, receive_ns)

    def _on_together(self, arrivals: Sequence[Arrival]) -> None:
        """Hand frames of several symbols over at once; what each topic needs then is seen to after them."""
        assert self._batch is not None, "frames are taken together by a batch"
        for one, frame, _ in arrivals:
            one.pushed_s = self._count(frame)
            one.counters.frames += 1
            one.counters.bytes += len(frame)
        self._batch.on_frames([(one.consumer, frame, receive_ns) for one, frame, receive_ns in arrivals])
        for one, _, _ in arrivals:
            self._look_after(one)

    def _count(self, frame: bytes) -> float:
        """A frame is handled now: answers when that is, on the event loop's clock."""
        now_s = self._heartbeat.heard_s = self._now_s()
        self._counters.frames += 1
        self._counters.bytes += len(frame)
        return now_s

    def _deliver(self, one: Subscription, frame: bytes, receive_ns: int) -> None:
        one.counters.frames += 1
        one.counters.bytes += len(frame)
        one.consumer.on_frame(frame, receive_ns)
        self._look_after(one)

    def _look_after(self, one: Subscription) -> None:
        """See what a topic needs now that a frame of it was taken in."""
        if one.snapshot_due and not one.fetching and not self._snapshot_bound.is_paused(self._now_s()):
            one.snapshot_due, one.fetching = False, True
            self._begin_fetch(one)
        if one.consumer.needs_resync and not one.noticed:
            one.noticed = True
            self._attention.set()

    def _on_unrouted(self, frame: bytes, receive_ns: int) -> None:
        """A frame whose topic does not stand first or is not ours, or one without a topic."""
        heard_s = self._count(frame)
        topic = self._venue.topic_of(frame)
        if topic:
            one = self._subscriptions.get(topic)
            if one is None:
                self._counters.unknown_topics += 1
            else:
                one.pushed_s = heard_s
                self._deliver(one, frame, receive_ns)
            return
        self._counters.unnamed_frames += 1
        readable = self._venue.is_readable(frame)
        for one in self._all:
            if not one.refused:
                one.consumer.on_unnamed_frame(frame, receive_ns, readable=readable)
        reply = self._venue.reply_in(frame)
        if reply is not None:
            self._on_reply(reply)

    async def _keep(self) -> None:
        """Do what the policies say, in time; raises what ends the connection."""
        interval_s = self._config.check_interval_s
        checked_s = self._now_s()
        turns = Turns()
        while True:
            now_s = self._now_s()
            if now_s - checked_s >= interval_s:
                checked_s = now_s
                now_ns = self._clock.now_ns()
                await turns.map(partial(_check_freshness, now_ns), self._all, TOPICS_A_TURN)
                await self._unreadable.check(now_s, turns)
            if self._fetch_failure is not None:
                raise self._fetch_failure
            await self._heartbeat.check(now_s)
            await self._check_progress(now_s, turns)
            wake_s = checked_s + interval_s
            self._attention.clear()
            joining: list[Subscription] = []
            for number, one in enumerate(self._all, 1):
                step, due_s = one.next_step(now_s)
                if step is Step.SUBSCRIBE and self._joins(one):
                    joining.append(one)
                elif step is not Step.NOTHING:
                    wake_s = min(wake_s, await self._take(one, step))
                else:
                    wake_s = min(wake_s, due_s)
                if number % TOPICS_A_TURN == 0:
                    await turns.give_way()
            most = self._venue.topics_a_request
            for start in range(0, len(joining), most):
                wake_s = min(wake_s, await self._subscribe_together(joining[start : start + most]))
            try:
                async with asyncio.timeout(max(0.0, wake_s - self._now_s())):
                    await self._attention.wait()
            except TimeoutError:
                pass

    async def _check_progress(self, now_s: float, turns: Turns) -> None:
        """Raises what it means that no topic gets any further."""
        deciding = self._deciding
        if not all(await turns.map(lambda one: one.obstacle(now_s), deciding, TOPICS_A_TURN)):
            return
        # Some may have got on while others were looked at; one turn decides, and no frames flow in this case.
        obstacles = [one.obstacle(now_s) for one in deciding]
        if not all(obstacles):
            return
        if all(one.refused for one in deciding):
            raise RefusedSubscriptionError("; ".join(obstacles))
        raise ConnectionEndedError(
            next(text for text, one in zip(obstacles, deciding, strict=True) if not one.refused)
        )

    def _joins(self, one: Subscription) -> bool:
        """Whether a topic that is to be subscribed may be so by a request that names others too."""
        if self._venue.snapshot_apart or one.asks_alone or one.leaves_first:
            return False
        return not (one.is_subscribed and self._venue.snapshot_follows(one.topic))

    async def _subscribe_together(self, some: Sequence[Subscription]) -> float:
        """Subscribe to topics by one request, or leave it as `_take`: answers until when."""
        now_s = self._now_s()
        wait_s = self._request_bound.wait_s(now_s)
        if wait_s > 0:
            return now_s + wait_s
        self._request_bound.take(now_s)
        request_id = self._next_id()
        for one in some:
            one.on_asked(request_id, now_s, again=False, joined=len(some) > 1)
            one.snapshot_due = self._venue.snapshot_follows(one.topic)
        await self._send("subscribe", some, request_id)
        return math.inf

    async def _take(self, one: Subscription, step: Step) -> float:
        """Take a subscription's step, or leave it where a bound does not allow it yet: answers until when."""
        now_s = self._now_s()
        again = step is Step.RESYNC
        silent = again and one.unheeded_s(now_s) >= self._config.silence.after_s
        if silent:
            self._check_others_live(one, now_s)
        apart = self._venue.snapshot_apart
        follows = self._venue.snapshot_follows(one.topic)
        lost = one.consumer.needs_resync or not again
        runs_on = follows and lost and one.is_subscribed and not silent  # the stream needs a snapshot alone
        asks = (not apart or silent or one.leaves_first) and not runs_on
        fetches = apart and one.consumer.keeps_book
        bounds = [self._request_bound] * asks + [self._snapshot_bound] * fetches
        wait_s = max((bound.wait_s(now_s) for bound in bounds), default=0.0)
        if wait_s > 0:
            return now_s + wait_s
        for bound in bounds:
            bound.take(now_s)
        if again:
            self._counters.resyncs += 1
            logger.warning(
                "%s: the book is lost: %s; %s",
                one.topic.name,
                one.lost_because(now_s),
                "subscribing again" if asks else "fetching a new snapshot",
            )
        request_id = self._next_id() if asks else ""
        one.on_asked(request_id, now_s, again=again, fetching=fetches)
        if asks:
            if one.leaves_first:
                await self._send("unsubscribe", [one], self._next_id())
            await self._send("subscribe", [one], request_id)
        one.snapshot_due = follows
        if fetches:
            self._begin_fetch(one)
        return math.inf

    def _begin_fetch(self, one: Subscription) -> None:
        task = asyncio.create_task(self._fetch(one), name=f"feed-snapshot {one.topic.name}")
        self._fetches.add(task)
        task.add_done_callback(self._fetches.discard)

    def _check_others_live(self, one: Subscription, now_s: float) -> None:
        """Raises ConnectionEndedError where the connection is as silent as the topic is."""
        silent_s = min(one.unheeded_s(now_s), now_s - self.pushed_s)
        if silent_s < self._config.silence.after_s:
            return
        self.ended_silent = True
        self._counters.silent_connections += 1
        raise ConnectionEndedError(
            f"no frame of any topic for {silent_s:.1f} s, though {one.topic.name} was asked for again"
        )

    async def _send(self, operation: Operation, some: Sequence[Subscription], request_id: str) -> None:
        request = self._venue.request(operation, [one.topic for one in some], request_id)
        await self._connection.send_within(request, self._config.send_timeout_s)

    def _next_id(self) -> str:
        self._last_request_id += 1
        return str(self._last_request_id)

    async def _fetch(self, one: Subscription) -> None:
        """Fetch a snapshot beside the stream, which goes on."""
        try:
            answer = await self._venue.fetch_snapshot(one.topic)
            refusal = answer if isinstance(answer, Reply) else None
            if refusal is not None and refusal.retry_after_s is not None:
                self._snapshot_bound.pause(self._now_s() + refusal.retry_after_s)
                logger.warning("no snapshot is fetched for %g s, as the exchange asks", refusal.retry_after_s)
            if isinstance(answer, bytes):
                self._counters.frames += 1
                self._counters.bytes += len(answer)
                self._deliver(one, answer, self._clock.now_ns())
            failure = one.on_fetched(refusal, self._now_s())
            if failure:
                self._counters.refusals += 1
                logger.warning("no snapshot of %s: %s", one.topic.name, printable(failure))
        except Exception as error:  # whatever a consumer raises, and what ends the connection
            self._fetch_failure = error
        self._attention.set()

    def _on_reply(self, reply: Reply) -> None:
        """Let the topics whose request it answers know; an answer to none changes nothing."""
        asked = self._askers(reply)
        if not asked:
            return
        names = ", ".join(one.topic.name for one in asked)
        if reply.success:
            logger.info("subscribed to %s", names)
        elif asked[0].joined:
            logger.warning(
                "the exchange refuses a request for several topics: %s; asking for each alone: %s",
                printable(reply.message),
                names,
            )
        else:
            self._counters.refusals += 1
            logger.warning("the exchange refuses %s: %s", names, printable(reply.message))
        now_s = self._now_s()
        for one in asked:
            one.on_reply(reply, now_s)
        self._attention.set()

    def _askers(self, reply: Reply) -> list[Subscription]:
        """Whose request a reply answers: by its id, else by a topic it names, else the first one's."""
        pending = [one for one in self._all if one.pending_id]
        request_id = reply.request_id
        if not request_id:
            named = [one for one in pending if one.topic.name in reply.message]
            request_id = next((one.pending_id for one in named or pending), "")
        return [one for one in pending if one.pending_id == request_id]


def _check_freshness(now_ns: int, one: Subscription) -> None:
    one.consumer.check_freshness(now_ns)
