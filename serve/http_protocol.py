"""The HTTP half of uvicorn with a bound on connections, and on the time that a request may take to come.

uvicorn closes a connection that is idle between two requests. One whose first request never comes, or comes
in part, it keeps for as long as the peer does, with its descriptor. Here a request has to be there,
head and body, some time after the connection or the last answer, however it drips.
A request that has become a websocket is past this: `serve.socket_protocol` bounds it.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from lob.errors import InputError

_STILL_COMING = frozenset({h11.IDLE, h11.SEND_BODY})
"""What h11 calls a peer of which the head of a request, or its body, is not there yet."""


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """How many connections may stand, websockets among them, and how long a request may take to come.

    One connection more is cut off as it is accepted; so is one whose request is late.
    """

    connections: int = 768
    request_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if self.connections < 1:
            raise InputError(f"connections: {self.connections} came, 1 or more is allowed")
        if not self.request_timeout_s > 0:
            raise InputError(f"request_timeout_s: {self.request_timeout_s} came, above 0 is allowed")


@dataclass(kw_only=True)
class ConnectionCounters:
    """How many connections were cut off."""

    full: int = 0
    """As many stood as may."""
    late: int = 0
    """A request did not become whole in time."""


class BoundedHTTPProtocol(H11Protocol):
    """uvicorn's protocol under `ConnectionLimits`; what it cuts off it counts in `counters`."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: ConnectionLimits,
        counters: ConnectionCounters,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._counters = counters
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Take the connection in, or cut it off where as many stand as may."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self._counters.full += 1
            transport.abort()
        else:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        super().connection_lost(exc)
        self._watch()

    def handle_events(self) -> None:
        """Handle what has come, and see whether more of a request has to."""
        super().handle_events()
        self._watch()

    def _watch(self) -> None:
        """Start the time of a request that is coming, or stop that of one that is there.

        A connection that has ended, or is a websocket now, is no longer among uvicorn's as this protocol.
        """
        coming = self in self.connections and self.conn.their_state in _STILL_COMING
        if not coming and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        elif coming and self._deadline is None:
            self._deadline = self.loop.call_later(self._limits.request_timeout_s, self._cut_off)

    def _cut_off(self) -> None:
        self._counters.late += 1
        self.transport.abort()
