"""The server on a listening socket, stopped in good order: last words first, then the sockets."""

import socket
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import partial

import uvicorn
from fastapi import FastAPI

from serve.http_protocol import BoundedHTTPProtocol, ConnectionCounters, ConnectionLimits
from serve.socket_protocol import BoundedWebSocketProtocol

PING_INTERVAL_S = 20.0
PING_TIMEOUT_S = 20.0
MAXIMUM_FRAME_BYTES = 64 * 1024
"""A longer websocket message is refused (1009) while it is being received."""

GRACEFUL_STOP_S = 1
"""How long plain HTTP requests under way may take to end."""


class Server(uvicorn.Server):
    """uvicorn on a socket that is already listening, without its signal handlers.

    `last_words` runs when the server is told to stop, while all connections still stand.
    """

    def __init__(
        self,
        app: FastAPI,
        listener: socket.socket,
        last_words: Callable[[], Awaitable[None]],
        limits: ConnectionLimits,
    ) -> None:
        self.connection_counters = ConnectionCounters()
        http = partial(BoundedHTTPProtocol, limits=limits, counters=self.connection_counters)
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="on",
                http=http,  # type: ignore[arg-type]  # only ever called
                ws=BoundedWebSocketProtocol,
                ws_max_size=MAXIMUM_FRAME_BYTES,
                ws_ping_interval=PING_INTERVAL_S,
                ws_ping_timeout=PING_TIMEOUT_S,
                ws_per_message_deflate=False,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACEFUL_STOP_S,
            )
        )
        self._listener = listener
        self._last_words = last_words

    @property
    def standing_connections(self) -> int:
        """How many connections there are now, websockets among them."""
        return len(self.server_state.connections)

    async def run_until_stopped(self) -> None:
        """Serve until `stop`; returns when every connection is closed."""
        await self.serve(sockets=[self._listener])

    def stop(self) -> None:
        """Begin the graceful stop; may be called from a signal handler or from any task."""
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the process's signals to the command that runs the service."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say the last words, then close the connections."""
        await self._last_words()
        await super().shutdown(sockets)
