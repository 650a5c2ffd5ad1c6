"""The subscriber: keeps topics of an exchange flowing into their consumers, whatever happens.

One connection carries them all. It connects, subscribes each topic by a request of its own and waits for the
answers, pings, and hands every frame to its topic's consumer with the time it arrived. A topic whose book is
lost is subscribed again alone; the others are not touched. A connection on which nothing arrives, or no topic
gets any further, is given up and made again. It knows nothing of books or predictions.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import cast

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from lob.errors import InputError
from serve.bybit_stream import BybitStream, check_stream_url, printable, public_address
from serve.clock import AnchoredClock
from serve.feed_policies import IdlePolicy, RefusalPolicy, ResyncPolicy, check_above_zero
from serve.reconnect import ReconnectPolicy
from serve.subscription import FrameConsumer, Step, Subscription
from serve.venue_connection import (
    ConnectionEndedError,
    StampedConnection,
    check_transport,
    open_connection,
)
from serve.venue_stream import Reply, Topic, VenueStream

logger = logging.getLogger(__name__)

GOING_AWAY = 1001


@dataclass(frozen=True, kw_only=True)
class FeedConfig:
    """Where a feed comes from and how it is kept alive.

    `allow_plaintext`: an address without TLS is taken for a machine other than this one, too. Raises
    InputError where the address is none or not allowed, or a time is not above 0.
    """

    url: str
    allow_plaintext: bool = False
    send_timeout_s: float = 5.0
    check_interval_s: float = 0.1
    idle: IdlePolicy = field(default_factory=IdlePolicy)
    reconnect: ReconnectPolicy = field(default_factory=ReconnectPolicy)
    resync: ResyncPolicy = field(default_factory=ResyncPolicy)
    refusal: RefusalPolicy = field(default_factory=RefusalPolicy)

    def __post_init__(self) -> None:
        check_transport(check_stream_url(self.url), allow_plaintext=self.allow_plaintext)
        check_above_zero("send_timeout_s", self.send_timeout_s)
        check_above_zero("check_interval_s", self.check_interval_s)


@dataclass
class FeedCounters:
    """What happened to a feed so far, all its topics together."""

    frames: int = 0
    bytes: int = 0
    connections: int = 0
    failed_connections: int = 0
    resyncs: int = 0
    refusals: int = 0
    idle_connections: int = 0
    """Connections given up because nothing arrived on them."""
    unnamed_frames: int = 0
    """Frames that name no topic: replies, and what cannot be read."""
    unknown_topics: int = 0
    """Frames of topics that nobody here takes."""
    full_queues: int = 0
    """Times so many frames waited in the process that reading from the socket paused."""


class RefusedSubscriptionError(InputError):
    """The exchange refuses every topic for good."""


class Feed:
    """Some topics of one exchange, from the first connection until it is cancelled."""

    def __init__(
        self,
        config: FeedConfig,
        consumers: Mapping[Topic, FrameConsumer],
        clock: AnchoredClock,
        *,
        venue: VenueStream | None = None,
        random: Random | None = None,
    ) -> None:
        """Keep each topic flowing into its consumer; `venue` is Bybit by default.

        Raises InputError where there is no topic, or two have one name.
        """
        random = random or Random()  # noqa: S311  # jitter, no secret
        self.counters = FeedCounters()
        self.subscriptions = {
            topic.name: Subscription(
                topic,
                consumer,
                resync=config.resync,
                refusal=config.refusal,
                reconnect=config.reconnect,
                random=random,
            )
            for topic, consumer in consumers.items()
        }
        if len(self.subscriptions) != len(consumers) or not consumers:
            names = ", ".join(topic.name for topic in consumers) or "none"
            raise InputError(f"topics: {names} came; allowed: at least one, and each name once")
        self._routes = {name.encode(): one for name, one in self.subscriptions.items()}
        self._all = tuple(self.subscriptions.values())
        self._config = config
        self._clock = clock
        self._random = random
        self._venue = venue or BybitStream()
        self._url = self._venue.address(config.url, list(consumers))
        self._address = public_address(config.url)
        self._attention = asyncio.Event()
        self._requests = 0
        self._heard_s = 0.0  # when a frame was last handled
        self._connection: StampedConnection | None = None
        self._fetches: set[asyncio.Task[None]] = set()
        self._fetch_failure: Exception | None = None

    @property
    def waiting_frames(self) -> int:
        """Frames that have arrived in the process and are not handled yet."""
        return 0 if self._connection is None else self._connection.waiting

    async def run(self) -> None:
        """Feed the consumers until cancelled.

        Raises RefusedSubscriptionError where the exchange has none of the topics, InputError where the
        address is none or the policy's attempts are used up, and whatever a consumer raises.
        """
        loop = asyncio.get_running_loop()
        policy = self._config.reconnect
        failures = 0
        while True:
            began_s = loop.time()
            reason = await self._run_connection()
            if loop.time() - began_s >= policy.settled_s:
                failures = 0
            if policy.gives_up_after(failures + 1):
                raise InputError(f"{self._address}: given up after {failures + 1} attempts: {reason}")
            delay_s = policy.delay_s(failures, self._random)
            failures += 1
            logger.warning("%s: %s; connecting again in %.2f s", self._address, reason, delay_s)
            await asyncio.sleep(delay_s)

    async def _run_connection(self) -> str:
        """One connection from its opening to its end; answers why it ended."""
        connected = False
        reason = "the feed was stopped"
        try:
            async with open_connection(self._url, self._clock.now_ns, self._on_full_queue) as connection:
                connected = True
                self.counters.connections += 1
                logger.info("connected to %s", self._address)
                for one in self._all:
                    if not one.refused:
                        one.on_connected()
                try:
                    await self._serve_connection(cast(StampedConnection, connection))
                except (asyncio.CancelledError, ConnectionEndedError, RefusedSubscriptionError):
                    await connection.close(GOING_AWAY)
                    raise
        except RefusedSubscriptionError as error:
            reason = str(error)
            raise
        except InvalidURI as error:
            raise InputError(f"url: {error}") from error
        except ConnectionClosed as error:
            reason = _close_reason(error)
        except ConnectionEndedError as error:
            reason = str(error)
        except TimeoutError:
            reason = "no answer in time"
        except (OSError, InvalidHandshake) as error:
            reason = f"{'lost' if connected else 'cannot connect'}: {error}"
        finally:
            self._connection = None
            for one in self._all:
                if not one.refused:
                    one.consumer.on_disconnected(reason)
        if not connected:
            self.counters.failed_connections += 1
        return reason

    async def _serve_connection(self, connection: StampedConnection) -> None:
        """Read and keep the connection at once; raises what ends either."""
        self._connection = connection
        self._fetch_failure = None
        self._heard_s = asyncio.get_running_loop().time()
        tasks = [
            asyncio.create_task(self._read(connection), name="feed-read"),
            asyncio.create_task(self._keep(connection), name="feed-keep"),
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

    async def _read(self, connection: StampedConnection) -> None:
        """Hand every message over as it comes; never ends but by an exception."""
        counters, routes = self.counters, self._routes
        prefix = self._venue.topic_prefix
        start = len(prefix)
        now_s = asyncio.get_running_loop().time
        while True:
            frame, receive_ns = await connection.receive()
            self._heard_s = now_s()
            counters.frames += 1
            counters.bytes += len(frame)
            # The topic's text stands first in every pushed frame: no decoding is needed to find it.
            one = routes.get(frame[start : frame.find(b'"', start)]) if frame.startswith(prefix) else None
            if one is None:
                self._on_unrouted(frame, receive_ns)
            else:
                self._deliver(one, frame, receive_ns)
            # Messages that already wait are returned without a pause; give the hub's writers their turn.
            await asyncio.sleep(0)

    def _deliver(self, one: Subscription, frame: bytes, receive_ns: int) -> None:
        counters, consumer = one.counters, one.consumer
        counters.frames += 1
        counters.bytes += len(frame)
        consumer.on_frame(frame, receive_ns)
        if consumer.needs_resync and not one.noticed:
            one.noticed = True
            self._attention.set()

    def _on_unrouted(self, frame: bytes, receive_ns: int) -> None:
        """A frame whose topic does not stand first or is not ours, or one without a topic."""
        topic = self._venue.topic_of(frame)
        if topic:
            one = self.subscriptions.get(topic)
            if one is None:
                self.counters.unknown_topics += 1
            else:
                self._deliver(one, frame, receive_ns)
            return
        self.counters.unnamed_frames += 1
        for one in self._all:
            if not one.refused:
                one.consumer.on_frame(frame, receive_ns)
        reply = self._venue.reply_in(frame)
        if reply is not None:
            self._on_reply(reply)

    async def _keep(self, connection: StampedConnection) -> None:
        """Subscribe, ping, watch for stalls, ask for snapshots; raises what ends the connection."""
        loop = asyncio.get_running_loop()
        interval_s = self._config.check_interval_s
        pinged_s = checked_s = self._heard_s
        while True:
            now_s = loop.time()
            if now_s - checked_s >= interval_s:
                checked_s = now_s
                now_ns = self._clock.now_ns()
                for one in self._all:
                    one.consumer.check_freshness(now_ns)
            if self._fetch_failure is not None:
                raise self._fetch_failure
            pinged_s = await self._ping(connection, now_s, pinged_s)
            obstacles = [one.obstacle(now_s) for one in self._all]
            if all(obstacles):
                self._end(obstacles)
            wake_s = checked_s + interval_s
            self._attention.clear()
            for one in self._all:
                step, due_s = one.next_step(now_s)
                if step is Step.NOTHING:
                    wake_s = min(wake_s, due_s)
                else:
                    await self._ask(connection, one, again=step is Step.RESYNC)
            try:
                async with asyncio.timeout(max(0.0, wake_s - loop.time())):
                    await self._attention.wait()
            except TimeoutError:
                pass

    def _end(self, obstacles: list[str]) -> None:
        """No topic gets any further: raises what that means."""
        if all(one.refused for one in self._all):
            raise RefusedSubscriptionError("; ".join(obstacles))
        raise ConnectionEndedError(
            next(text for text, one in zip(obstacles, self._all, strict=True) if not one.refused)
        )

    async def _ping(self, connection: StampedConnection, now_s: float, pinged_s: float) -> float:
        """Ping when it is time, or nothing has arrived for long; the time of the last ping.

        Raises ConnectionEndedError where not even the answer to a ping comes.
        """
        idle = self._config.idle
        silent_s = 0.0 if connection.waiting else now_s - self._heard_s
        probed = pinged_s > self._heard_s
        if probed and silent_s >= idle.probe_after_s and now_s - pinged_s >= idle.answer_within_s:
            self.counters.idle_connections += 1
            raise ConnectionEndedError(f"silent for {silent_s:.1f} s, no answer to a ping either")
        if now_s - pinged_s >= idle.ping_interval_s or (silent_s >= idle.probe_after_s and not probed):
            await self._probe(connection)
            return now_s
        return pinged_s

    async def _probe(self, connection: StampedConnection) -> None:
        """Send what a living connection answers at once."""
        if self._venue.ping_frame is not None:
            await self._send(connection, self._venue.ping_frame)
            return
        answer = await connection.ping()
        asyncio.ensure_future(answer).add_done_callback(self._on_pong)

    def _on_pong(self, answer: asyncio.Future[float]) -> None:
        if not answer.cancelled() and answer.exception() is None:
            self._heard_s = asyncio.get_running_loop().time()

    async def _ask(self, connection: StampedConnection, one: Subscription, *, again: bool) -> None:
        """Subscribe to a topic; `again` leaves it first, so that the exchange begins with a new snapshot."""
        self._requests += 1
        now_s = asyncio.get_running_loop().time()
        if again:
            self.counters.resyncs += 1
            logger.warning("%s: the book is lost; asking for a new snapshot", one.topic.name)
        request = self._venue.request("subscribe", one.topic, f"s{self._requests}")
        one.on_asked("" if request is None else f"s{self._requests}", now_s, again=again)
        if request is None:
            self._fetch(one)
            return
        if again:
            leave = self._venue.request("unsubscribe", one.topic, f"u{self._requests}")
            assert leave is not None, "a venue that is asked to subscribe is asked to unsubscribe"
            await self._send(connection, leave)
        await self._send(connection, request)

    def _fetch(self, one: Subscription) -> None:
        """Fetch a snapshot beside the stream, which goes on."""
        task = asyncio.create_task(self._fetch_snapshot(one), name=f"feed-snapshot {one.topic.name}")
        self._fetches.add(task)
        task.add_done_callback(self._fetches.discard)

    async def _fetch_snapshot(self, one: Subscription) -> None:
        try:
            answer = await self._venue.fetch_snapshot(one.topic)
            if answer is None:
                return
            if isinstance(answer, bytes):
                self.counters.frames += 1
                self.counters.bytes += len(answer)
                self._deliver(one, answer, self._clock.now_ns())
                reply = Reply(request_id="", success=True)
            else:
                self.counters.refusals += 1
                logger.warning("no snapshot of %s: %s", one.topic.name, answer.message)
                reply = answer
            one.on_reply(reply, asyncio.get_running_loop().time())
        except Exception as error:  # whatever a consumer raises, and what ends the connection
            self._fetch_failure = error
        self._attention.set()

    async def _send(self, connection: StampedConnection, frame: str) -> None:
        try:
            async with asyncio.timeout(self._config.send_timeout_s):
                await connection.send(frame)
        except TimeoutError:
            raise ConnectionEndedError(
                f"the exchange took no request for {self._config.send_timeout_s:g} s"
            ) from None

    def _on_reply(self, reply: Reply) -> None:
        """Let the topic whose request it answers know; an answer to none changes nothing."""
        one = self._asker(reply)
        if one is None:
            return
        one.on_reply(reply, asyncio.get_running_loop().time())
        if reply.success:
            logger.info("subscribed to %s", one.topic.name)
        else:
            self.counters.refusals += 1
            logger.warning("the exchange refuses %s: %s", one.topic.name, printable(reply.message))
        self._attention.set()

    def _asker(self, reply: Reply) -> Subscription | None:
        """Whose request a reply answers: by its id, else by the topic it names, else the oldest one."""
        pending = [one for one in self._all if one.pending_id]
        if reply.request_id:
            return next((one for one in pending if one.pending_id == reply.request_id), None)
        named = [one for one in pending if one.topic.name in reply.message]
        return next(iter(named or pending), None)

    def _on_full_queue(self) -> None:
        self.counters.full_queues += 1


def _close_reason(error: ConnectionClosed) -> str:
    """Who closed the connection, with which code and why."""
    if error.rcvd is not None:
        return f"closed by the exchange: {error.rcvd.code} {printable(error.rcvd.reason)}".rstrip()
    if error.sent is not None:
        return f"closed by us: {error.sent.code} {error.sent.reason}".rstrip()
    return "connection lost without a word"
