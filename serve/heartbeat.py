"""Is anybody there: pings a connection on which nothing arrives, and gives it up where no answer comes."""

import asyncio

from serve.feed_config import FeedConfig
from serve.feed_counters import FeedCounters
from serve.venue_connection import ConnectionEndedError, StampedConnection


class Heartbeat:
    """Keeps one connection's idle policy; `ping_frame` as in `serve.venue_stream.VenueStream`."""

    def __init__(
        self,
        connection: StampedConnection,
        ping_frame: str | None,
        config: FeedConfig,
        counters: FeedCounters,
    ) -> None:
        self._connection = connection
        self._ping_frame = ping_frame
        self._idle = config.idle
        self._send_timeout_s = config.send_timeout_s
        self._counters = counters
        self._now_s = asyncio.get_running_loop().time
        self.heard_s = self._now_s()
        """When a frame was last handled, or a ping answered; the one who reads keeps it up to date."""
        self._pinged_s = self.heard_s

    async def check(self, now_s: float) -> None:
        """Ping when it is time, or nothing has arrived for long.

        Raises ConnectionEndedError where not even the answer to a ping comes, or the ping cannot be sent.
        """
        idle = self._idle
        silent_s = 0.0 if self._connection.waiting else now_s - self.heard_s
        probed = self._pinged_s > self.heard_s
        since_ping_s = now_s - self._pinged_s
        if probed and silent_s >= idle.probe_after_s and since_ping_s >= idle.answer_within_s:
            self._counters.idle_connections += 1
            raise ConnectionEndedError(f"silent for {silent_s:.1f} s, no answer to a ping either")
        if since_ping_s >= idle.ping_interval_s or (silent_s >= idle.probe_after_s and not probed):
            self._pinged_s = now_s
            await self._probe()

    async def _probe(self) -> None:
        """Send what a living connection answers at once."""
        if self._ping_frame is not None:
            await self._connection.send_within(self._ping_frame, self._send_timeout_s)
            return
        answer = await self._connection.ping_within(self._send_timeout_s)
        asyncio.ensure_future(answer).add_done_callback(self._on_pong)

    def _on_pong(self, answer: asyncio.Future[float]) -> None:
        if not answer.cancelled() and answer.exception() is None:
            self.heard_s = self._now_s()
