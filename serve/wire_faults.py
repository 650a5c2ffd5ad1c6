"""Faults of a connection: what is done to the websocket or to its socket in place of sending a text message.

They wait in a client's outbox among the frames, and are carried out in their turn.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol

from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode

SERVICE_RESTART = 1012
"""The close code that a server gives before it restarts."""

DRIP_EVERY_S = 0.002
DRIP_BYTES = 7
"""How much is sent at a time while a connection drips: less than a frame's header, so that this too comes
in pieces."""


class FaultyConnection(ServerConnection):
    """A server's connection whose bytes can be held back, let through a few at a time, or cut off."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._held: bytearray | None = None
        self._half_closed = False
        self._timer: asyncio.TimerHandle | None = None

    def send_data(self) -> None:
        """Write what the protocol has to say, or hold it back."""
        if self._held is None:
            super().send_data()
            return
        for data in self.protocol.data_to_send():
            if data:
                self._held += data
            else:
                self._half_closed = True

    def freeze(self, seconds: float) -> None:
        """Send nothing, pongs and closing included, for so long; then all of it."""
        self._hold(seconds, 0)

    def drip(self, seconds: float) -> None:
        """Send everything a few bytes at a time for so long; then the rest of it."""
        self._hold(seconds, DRIP_BYTES)

    def cut(self, frame: bytes) -> None:
        """Send the first half of a message and end the connection there."""
        data = Frame(Opcode.TEXT, frame).serialize(mask=False)
        self.transport.write(data[: len(data) // 2])
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what is held back."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _hold(self, seconds: float, bytes_at_a_time: int) -> None:
        if self._held is None:
            self._held = bytearray()
        elif self._timer is not None:
            self._timer.cancel()
        self._let_through(self.loop.time() + seconds, bytes_at_a_time)

    def _let_through(self, until_s: float, bytes_at_a_time: int) -> None:
        assert self._held is not None, "nothing is held back"
        if self.loop.time() >= until_s or self.transport.is_closing():
            held, self._held, self._timer = self._held, None, None
            if self.transport.is_closing():
                return
            if held:
                self.transport.write(held)
            if self._half_closed and self.transport.can_write_eof():
                self.transport.write_eof()
            return
        if bytes_at_a_time and self._held:
            self.transport.write(bytes(self._held[:bytes_at_a_time]))
            del self._held[:bytes_at_a_time]
        wait_s = DRIP_EVERY_S if bytes_at_a_time else until_s - self.loop.time()
        self._timer = self.loop.call_later(wait_s, self._let_through, until_s, bytes_at_a_time)


class WireFault(Protocol):
    """Something to do with a connection when its turn comes."""

    async def perform(self, connection: ServerConnection) -> None:
        """Do it; may raise ConnectionClosed."""


@dataclass(frozen=True, slots=True)
class BinaryMessage:
    """A binary message."""

    content: bytes

    async def perform(self, connection: ServerConnection) -> None:
        """Send it."""
        await connection.send(self.content, text=False)


@dataclass(frozen=True, slots=True)
class FragmentedMessage:
    """A text message in several websocket frames, which the receiver is to put together."""

    frame: bytes
    fragments: int

    async def perform(self, connection: ServerConnection) -> None:
        """Send it."""
        size = max(1, -(-len(self.frame) // self.fragments))
        pieces = [self.frame[i : i + size] for i in range(0, len(self.frame), size)]
        await connection.send(pieces, text=True)


@dataclass(frozen=True, slots=True)
class CloseConnection:
    """The end of the connection, with a close frame."""

    code: int = SERVICE_RESTART
    reason: str = "injected fault"

    async def perform(self, connection: ServerConnection) -> None:
        """Close it."""
        await connection.close(self.code, self.reason)


@dataclass(frozen=True, slots=True)
class AbortConnection:
    """The end of the connection without a word."""

    async def perform(self, connection: ServerConnection) -> None:
        """Abort it."""
        connection.transport.abort()


@dataclass(frozen=True, slots=True)
class CutMessage:
    """The end of the connection in the middle of a message."""

    frame: bytes

    async def perform(self, connection: ServerConnection) -> None:
        """Send half of it and end the connection."""
        _faulty(connection).cut(self.frame)


@dataclass(frozen=True, slots=True)
class FreezeConnection:
    """Silence of the whole connection for some seconds, then everything at once."""

    seconds: float

    async def perform(self, connection: ServerConnection) -> None:
        """Begin it."""
        _faulty(connection).freeze(self.seconds)


@dataclass(frozen=True, slots=True)
class DripConnection:
    """Some seconds in which the connection's bytes come a few at a time."""

    seconds: float

    async def perform(self, connection: ServerConnection) -> None:
        """Begin it."""
        _faulty(connection).drip(self.seconds)


@dataclass(frozen=True, slots=True)
class RefuseConnections:
    """All connections end, and new ones are refused for some seconds: the exchange does it, not an outbox."""

    seconds: float

    async def perform(self, connection: ServerConnection) -> None:
        """End this connection."""
        connection.transport.abort()


def _faulty(connection: ServerConnection) -> FaultyConnection:
    assert isinstance(connection, FaultyConnection), "the exchange's connections can be made faulty"
    return connection
