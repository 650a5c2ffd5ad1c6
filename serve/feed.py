"""The subscriber: keeps one order-book topic of an exchange flowing into a consumer, whatever happens.

It connects, subscribes and waits for the acknowledgement, sends the exchange's own ping, and hands every
frame over with the time it arrived. It asks for a new snapshot when the consumer says that its book is lost,
ends a connection that gives no snapshot, and connects again after a lost one. It knows nothing of books or
predictions.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from random import Random
from typing import Protocol, cast

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from lob.bybit import BybitDecoder
from lob.errors import InputError
from lob.messages import Acknowledgement, VenueError
from serve.bybit_stream import (
    PING_FRAME,
    BookTopic,
    check_stream_url,
    is_pushed,
    public_address,
    request_frame,
)
from serve.clock import AnchoredClock
from serve.reconnect import ReconnectPolicy
from serve.venue_connection import StampedConnection, open_connection

logger = logging.getLogger(__name__)

GOING_AWAY = 1001


class FrameConsumer(Protocol):
    """Takes an exchange's frames in; everything is synchronous and short."""

    @property
    def needs_resync(self) -> bool:
        """Whether the book is lost and nobody has asked for a new snapshot yet."""

    @property
    def awaits_snapshot(self) -> bool:
        """Whether nothing can be made of the stream until a snapshot comes."""

    def on_connected(self) -> None:
        """A new connection stands; its first book message will be a snapshot."""

    def on_disconnected(self, reason: str) -> None:
        """The connection is lost; `reason` is for people."""

    def on_frame(self, frame: bytes, receive_ns: int) -> None:
        """One message, as it came."""

    def check_freshness(self, now_ns: int) -> object:
        """It is `now_ns`: decide whether the stream has stalled."""

    def resync_requested(self) -> None:
        """A new snapshot has been asked for."""


@dataclass(frozen=True, kw_only=True)
class RefusalPolicy:
    """Which refusals of a subscription are final: those whose text holds one of these words.

    Any other is answered by a new connection after the usual wait.
    """

    final_words: tuple[str, ...] = ("invalid symbol", "invalid topic", "handler not found")

    def is_final(self, message: str) -> bool:
        """Whether there is no use in asking again."""
        return any(words in message.lower() for words in self.final_words)


@dataclass(frozen=True, kw_only=True)
class ResyncPolicy:
    """How often a new snapshot may be asked for, and how long one may take before the connection is given up.

    Asking is unsubscribing and subscribing again. However often the book is lost, that happens at most once
    in `minimum_interval_s`.
    """

    minimum_interval_s: float = 1.0
    snapshot_timeout_s: float = 5.0


@dataclass(frozen=True, kw_only=True)
class FeedConfig:
    """Where a feed comes from and how it is kept alive."""

    url: str
    topic: BookTopic
    ping_interval_s: float = 20.0
    acknowledgement_timeout_s: float = 10.0
    send_timeout_s: float = 5.0
    check_interval_s: float = 0.1
    reconnect: ReconnectPolicy = field(default_factory=ReconnectPolicy)
    resync: ResyncPolicy = field(default_factory=ResyncPolicy)
    refusal: RefusalPolicy = field(default_factory=RefusalPolicy)

    def __post_init__(self) -> None:
        check_stream_url(self.url)


@dataclass
class FeedCounters:
    """What happened to a feed so far."""

    frames: int = 0
    bytes: int = 0
    connections: int = 0
    failed_connections: int = 0
    resyncs: int = 0
    refusals: int = 0


class ConnectionEndedError(Exception):
    """This connection is over; its text says why."""


class RefusedSubscriptionError(InputError):
    """The exchange refuses the topic for good."""


class Feed:
    """One topic of one exchange, from the first connection until it is cancelled."""

    def __init__(
        self,
        config: FeedConfig,
        consumer: FrameConsumer,
        clock: AnchoredClock,
        random: Random | None = None,
    ) -> None:
        self.counters = FeedCounters()
        self._config = config
        self._consumer = consumer
        self._clock = clock
        self._random = random or Random()  # noqa: S311  # jitter, no secret
        self._decoder = BybitDecoder()
        self._attention = asyncio.Event()
        self._requests = 0
        self._subscribed_s = 0.0
        self._unacknowledged = ""
        self._address = public_address(config.url)

    async def run(self) -> None:
        """Feed the consumer until cancelled.

        Raises RefusedSubscriptionError where the exchange does not have the topic, InputError where the
        address is none or the policy's attempts are used up, and whatever the consumer raises.
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
            async with open_connection(self._config.url, self._clock.now_ns) as connection:
                connected = True
                self.counters.connections += 1
                logger.info("connected to %s", self._address)
                self._consumer.on_connected()
                try:
                    await self._serve_connection(cast(StampedConnection, connection))
                except asyncio.CancelledError:
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
            self._consumer.on_disconnected(reason)
        if not connected:
            self.counters.failed_connections += 1
        return reason

    async def _serve_connection(self, connection: StampedConnection) -> None:
        """Read and keep the connection at once; raises what ends either."""
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
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, connection: StampedConnection) -> None:
        """Hand every message over as it comes; never ends but by an exception."""
        consumer, counters = self._consumer, self.counters
        while True:
            frame, receive_ns = await connection.receive()
            counters.frames += 1
            counters.bytes += len(frame)
            consumer.on_frame(frame, receive_ns)
            if not is_pushed(frame):
                self._on_reply(frame)
            if consumer.needs_resync:
                self._attention.set()
            # Messages that already wait are returned without a pause; give the hub's writers their turn.
            await asyncio.sleep(0)

    async def _keep(self, connection: StampedConnection) -> None:
        """Subscribe, ping, watch for stalls, ask for snapshots; raises what ends the connection."""
        config, consumer, loop = self._config, self._consumer, asyncio.get_running_loop()
        await self._send_subscription(connection, again=False)
        pinged_s = loop.time()
        waits_since_s: float | None = None
        while True:
            self._attention.clear()
            try:
                async with asyncio.timeout(config.check_interval_s):
                    await self._attention.wait()
            except TimeoutError:
                consumer.check_freshness(self._clock.now_ns())
            now_s = loop.time()
            if now_s - pinged_s >= config.ping_interval_s:
                pinged_s = now_s
                await self._send(connection, PING_FRAME)
            waits_since_s = (waits_since_s or now_s) if consumer.awaits_snapshot else None
            if waits_since_s is not None and now_s - waits_since_s > config.resync.snapshot_timeout_s:
                raise ConnectionEndedError(f"no snapshot in {config.resync.snapshot_timeout_s:g} s")
            waited_s = now_s - self._subscribed_s
            if self._unacknowledged and waited_s > config.acknowledgement_timeout_s:
                raise ConnectionEndedError(
                    f"no answer to the subscription in {config.acknowledgement_timeout_s:g} s"
                )
            if consumer.needs_resync:
                await asyncio.sleep(max(0.0, config.resync.minimum_interval_s - waited_s))
                if consumer.needs_resync:  # no snapshot came by itself meanwhile
                    await self._send_subscription(connection, again=True)

    async def _send_subscription(self, connection: StampedConnection, *, again: bool) -> None:
        """Subscribe; `again` leaves the topic first, so that the exchange begins with a new snapshot."""
        topic = self._config.topic
        self._requests += 1
        self._subscribed_s = asyncio.get_running_loop().time()
        if again:
            self.counters.resyncs += 1
            logger.warning("%s: the book is lost; asking for a new snapshot", topic.name)
            self._consumer.resync_requested()
            await self._send(connection, request_frame("unsubscribe", topic, f"u{self._requests}"))
        self._unacknowledged = f"s{self._requests}"
        await self._send(connection, request_frame("subscribe", topic, self._unacknowledged))

    async def _send(self, connection: StampedConnection, frame: str) -> None:
        try:
            async with asyncio.timeout(self._config.send_timeout_s):
                await connection.send(frame)
        except TimeoutError:
            raise ConnectionEndedError(
                f"the exchange took no request for {self._config.send_timeout_s:g} s"
            ) from None

    def _on_reply(self, frame: bytes) -> None:
        """Act on the answer to a request; raises RefusedSubscriptionError or ConnectionEndedError."""
        message = self._decoder.decode(frame)
        if isinstance(message, VenueError):
            logger.warning("the exchange reports an error: %s", printable(message.message))
        if not isinstance(message, Acknowledgement) or message.operation != "subscribe":
            return
        if message.request_id not in ("", self._unacknowledged):
            return
        if message.success:
            self._unacknowledged = ""
            logger.info("subscribed to %s", self._config.topic.name)
            return
        self.counters.refusals += 1
        refusal = f"the exchange refuses {self._config.topic.name}: {printable(message.message)}"
        if self._config.refusal.is_final(message.message):
            raise RefusedSubscriptionError(refusal)
        raise ConnectionEndedError(refusal)


def printable(text: str, length: int = 200) -> str:
    """An exchange's words on one line, without control characters, cut to `length`."""
    return "".join(c if c.isprintable() else "?" for c in text[:length])


def _close_reason(error: ConnectionClosed) -> str:
    """Who closed the connection, with which code and why."""
    if error.rcvd is not None:
        return f"closed by the exchange: {error.rcvd.code} {printable(error.rcvd.reason)}".rstrip()
    if error.sent is not None:
        return f"closed by us: {error.sent.code} {error.sent.reason}".rstrip()
    return "connection lost without a word"
