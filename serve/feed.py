"""The subscriber: keeps topics of an exchange flowing into their consumers, whatever happens.

One connection carries them all; `serve.feed_connection` serves it. Here it is opened, and opened again when
it ends. It knows nothing of books or predictions.
"""

import asyncio
import logging
from collections.abc import Mapping
from random import Random
from typing import cast

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from lob.errors import InputError
from serve.bybit_stream import BybitStream, printable, public_address
from serve.clock import AnchoredClock
from serve.feed_config import FeedConfig
from serve.feed_connection import FeedConnection, RefusedSubscriptionError
from serve.feed_counters import FeedCounters
from serve.frame_consumer import FrameBatch, FrameConsumer
from serve.rate_bound import RateBound
from serve.subscription import Subscription
from serve.unreadable_frames import UnreadableFrames
from serve.venue_connection import ConnectionEndedError, StampedConnection, open_connection
from serve.venue_stream import Topic, VenueStream

logger = logging.getLogger(__name__)

GOING_AWAY = 1001


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
        batch: FrameBatch | None = None,
    ) -> None:
        """Keep each topic flowing into its consumer; `venue` is Bybit by default.

        `batch` takes frames of several symbols that wait together; None: they are taken one by one.
        Raises InputError where there is no topic, or two have one name.
        """
        self._random = random or Random()  # noqa: S311  # jitter, no secret
        self._venue = venue or BybitStream()
        self.counters = FeedCounters()
        self.subscriptions = {
            topic.name: Subscription(
                topic,
                consumer,
                snapshot=config.snapshot if self._venue.snapshot_apart else None,
                resync=config.resync,
                refusal=config.refusal,
                reconnect=config.reconnect,
                random=self._random,
            )
            for topic, consumer in consumers.items()
        }
        if len(self.subscriptions) != len(consumers) or not consumers:
            names = ", ".join(topic.name for topic in consumers) or "none"
            raise InputError(f"topics: {names} came; allowed: at least one, and each name once")
        self._all = tuple(self.subscriptions.values())
        self._config = config
        self._clock = clock
        self._url = self._venue.address(config.url, list(consumers))
        self._address = public_address(config.url)
        self._snapshot_bound = RateBound(config.snapshot.rate)
        self._unreadable = UnreadableFrames(self._all, config.unreadable_every_s)
        self._batch = batch
        self._serving: FeedConnection | None = None
        self._held_s = 0.0  # for how long the last connection did its work

    @property
    def waiting_frames(self) -> int:
        """Frames that have arrived in the process and are not handled yet."""
        return 0 if self._serving is None else self._serving.waiting_frames

    async def run(self) -> None:
        """Feed the consumers until cancelled.

        Raises RefusedSubscriptionError where the exchange has none of the topics, InputError where the
        address is none or the policy's attempts are used up, and whatever a consumer raises.
        """
        policy = self._config.reconnect
        failures = 0
        while True:
            reason = await self._run_connection()
            if self._held_s >= policy.settled_s:
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
        self._held_s = 0.0
        try:
            async with open_connection(self._url, self._clock.now_ns, self._on_full_queue) as connection:
                connected = True
                self.counters.connections += 1
                logger.info("connected to %s", self._address)
                for one in self._all:
                    if not one.refused:
                        one.on_connected()
                try:
                    await self._serve(cast(StampedConnection, connection))
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
            self._serving = None
            for one in self._all:
                if not one.refused:
                    one.consumer.on_disconnected(reason)
        if not connected:
            self.counters.failed_connections += 1
        return reason

    async def _serve(self, connection: StampedConnection) -> None:
        """Serve one connection; raises what ends it."""
        now_s = asyncio.get_running_loop().time
        began_s = now_s()
        serving = self._serving = FeedConnection(
            connection,
            self.subscriptions,
            config=self._config,
            venue=self._venue,
            clock=self._clock,
            counters=self.counters,
            snapshot_bound=self._snapshot_bound,
            unreadable=self._unreadable,
            batch=self._batch,
        )
        try:
            await serving.serve()
        finally:
            # One that fell silent did its work until then: it must not hide that each brings nothing.
            self._held_s = (serving.pushed_s if serving.ended_silent else now_s()) - began_s

    def _on_full_queue(self) -> None:
        self.counters.full_queues += 1


def _close_reason(error: ConnectionClosed) -> str:
    """Who closed the connection, with which code and why."""
    if error.rcvd is not None:
        return f"closed by the exchange: {error.rcvd.code} {printable(error.rcvd.reason)}".rstrip()
    if error.sent is not None:
        return f"closed by us: {error.sent.code} {error.sent.reason}".rstrip()
    return "connection lost without a word"
