"""The websocket half of uvicorn with the bounds a feed of predictions needs.

uvicorn waits for a connection's write buffer to fall below its high-water mark before the next message, and
it closes a transport by flushing that buffer first. With a peer that stays connected and stops reading, the
first makes the buffer as old as it is large and the second never ends. So the buffer is small here, and a
connection can be cut off without a flush.

What goes to many clients alike is one frame, made once: a server's frames are not masked, and these
connections have no extension that would change them (RFC 6455, section 5). `write_now` writes such a frame
past uvicorn's queue and the application's task, which cost each message some twenty microseconds a client.
"""

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode
from websockets.protocol import State

WRITE_BUFFER_BYTES = 32 * 1024
"""What may wait in the process for one client's socket, beyond the message being written."""

ABORT_KEY = "abort_connection"
"""Under this key of the connection's state stands the function that cuts it off at once."""

WRITE_NOW_KEY = "write_now"
"""Under this one stands `BoundedWebSocketProtocol.write_now`."""


def text_frame(payload: bytes) -> bytes:
    """The websocket frame with which a server sends the text `payload`, UTF-8, to any client."""
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


class BoundedWebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol with a small write buffer and an abort that the application can reach."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        own = {ABORT_KEY: self.abort, WRITE_NOW_KEY: self.write_now}
        super().__init__(config, server_state, {**app_state, **own}, _loop)
        assert not config.ws_per_message_deflate, "a frame made once is no client's own, compressed"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Bound the write buffer of the new connection."""
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def write_now(self, frame: bytes) -> bool:
        """Write a whole frame, as `text_frame` makes it, without waiting; answers whether it was written.

        It is not, and nothing is, where the connection does not stand, or is being closed, or its socket has
        not taken all of what was written before. The caller sees to it that nobody is about to write.
        """
        transport = self.transport
        if (
            self.close_sent
            or self.conn.state is not State.OPEN
            or transport.is_closing()
            or transport.get_write_buffer_size()
        ):
            return False
        transport.write(frame)
        return True

    def abort(self) -> None:
        """Cut the connection off; what waits to be written is lost."""
        self.transport.abort()

    def handle_ping(self) -> None:
        """Answer a ping; a peer that pings without reading the answers is cut off before they pile up."""
        super().handle_ping()
        if self.transport.get_write_buffer_size() > 2 * WRITE_BUFFER_BYTES:
            self.transport.abort()

    def keepalive_timeout(self) -> None:
        """A peer that answers no ping reads nothing either: there is no flush to wait for."""
        super().keepalive_timeout()
        self.transport.abort()
