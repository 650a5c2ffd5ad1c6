"""The websocket endpoint `/v1/stream`: requests in, replies and pushes out, every bound a named limit.

Each connection has one reader and one writer. The reader turns requests into subscriptions and replies; the
writer sends what waits in the connection's mailbox, and while it sleeps, because nothing does, the hub may
write a prediction itself. Nothing a client does or
leaves undone is waited for by anyone else.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import WebSocket, WebSocketDisconnect

from lob.errors import InputError
from serve.hub import Closing, Hub, Mailbox
from serve.messages import OPERATIONS, Reply, Request, encode_text, parse_request, shorten
from serve.socket_protocol import ABORT_KEY, WRITE_NOW_KEY

logger = logging.getLogger(__name__)

POLICY_VIOLATION = 1008
MESSAGE_TOO_BIG = 1009
GOING_AWAY = 1001
TRY_AGAIN_LATER = 1013

MAXIMUM_ECHO = 64
"""How much of a request's own operation and id a reply sends back."""


@dataclass(frozen=True, kw_only=True)
class StreamLimits:
    """What one client, and all together, may ask of the service.

    Requests are counted by a bucket of `request_burst` that refills by `requests_per_s`; one above it
    closes the connection (1008). A request longer than `request_bytes` does too (1009), and a connection
    beyond `connections` is told to come back later (1013). A message that the client's socket does not take
    within `send_timeout_s` cuts it off.
    """

    connections: int = 512
    request_bytes: int = 4_096
    request_args: int = 10
    request_burst: int = 20
    requests_per_s: float = 5.0
    send_timeout_s: float = 5.0
    close_timeout_s: float = 0.5


class RequestBudget:
    """A token bucket: how many requests a client may still make now."""

    def __init__(self, limits: StreamLimits, now_s: float) -> None:
        self._limits = limits
        self._left = float(limits.request_burst)
        self._updated_s = now_s

    def spend(self, now_s: float) -> bool:
        """Take one request's worth; False where nothing is left."""
        refilled = self._left + (now_s - self._updated_s) * self._limits.requests_per_s
        self._left = min(float(self._limits.request_burst), refilled)
        self._updated_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


class StreamSession:
    """One client's connection, from its acceptance to its end."""

    def __init__(self, websocket: WebSocket, hub: Hub, limits: StreamLimits) -> None:
        self.connection_id = secrets.token_hex(8)
        self.mailbox = Mailbox(websocket.scope["state"][WRITE_NOW_KEY])
        self.sending_since_s: float | None = None
        self._websocket = websocket
        self._hub = hub
        self._limits = limits
        self._now_s: Callable[[], float] = asyncio.get_running_loop().time
        self._abort: Callable[[], None] = websocket.scope["state"][ABORT_KEY]

    async def run(self) -> None:
        """Serve the client until it leaves, breaks a limit or is told to go."""
        reader = asyncio.create_task(self._read(), name=f"stream-read-{self.connection_id}")
        writer = asyncio.create_task(self._write(), name=f"stream-write-{self.connection_id}")
        try:
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
            if self.mailbox.closing is not None:
                await asyncio.wait((writer,), timeout=self._limits.close_timeout_s)
                await self._close(self.mailbox.closing, writer)
        finally:
            self._hub.forget(self.mailbox)
            for task in (reader, writer):
                task.cancel()
            for outcome in await asyncio.gather(reader, writer, return_exceptions=True):
                if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect):
                    raise outcome

    def cut_off_if_stuck(self, now_s: float) -> bool:
        """Abort the connection if its socket has not taken a message in time; answers whether it did."""
        stuck = (
            self.sending_since_s is not None and now_s - self.sending_since_s > self._limits.send_timeout_s
        )
        if stuck:
            self._abort()
        return stuck

    async def _close(self, closing: Closing, writer: asyncio.Task[None]) -> None:
        if not writer.done():
            self._abort()
            return
        try:
            async with asyncio.timeout(self._limits.close_timeout_s):
                await self._websocket.close(closing.code, closing.reason)
        except TimeoutError:
            self._abort()
        except (WebSocketDisconnect, RuntimeError):
            return  # the client left first

    async def _write(self) -> None:
        """Send what waits, in order; ends once the mailbox is empty and the connection is to close."""
        mailbox = self.mailbox
        send_text = self._websocket.send_text
        while True:
            text = mailbox.take()
            if text is not None:
                self.sending_since_s = self._now_s()
                await send_text(text)
                self.sending_since_s = None
            elif mailbox.closing is not None:
                return
            else:
                await mailbox.wait()

    async def _read(self) -> None:
        """Answer requests until the client leaves or breaks a limit."""
        budget = RequestBudget(self._limits, self._now_s())
        while self.mailbox.closing is None:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("bytes") or message.get("text", "").encode()
            if len(text) > self._limits.request_bytes:
                self.mailbox.close(
                    MESSAGE_TOO_BIG,
                    f"a request of {len(text)} bytes came, {self._limits.request_bytes} are allowed",
                )
            elif not budget.spend(self._now_s()):
                self.mailbox.close(
                    POLICY_VIOLATION,
                    f"more than {self._limits.request_burst} requests came at once, "
                    f"{self._limits.requests_per_s:g} a second are allowed",
                )
            else:
                self._answer(text)

    def _answer(self, text: bytes) -> None:
        """Do what one request asks and leave its reply in the mailbox."""
        request = Request("")
        try:
            request = parse_request(text)
            message = self._perform(request)
            success = True
        except InputError as error:
            message = str(error)
            success = False
        request_id = request.req_id[:MAXIMUM_ECHO]
        reply = Reply(request.op[:MAXIMUM_ECHO], success, request_id, message, self.connection_id)
        self.mailbox.put_reply(encode_text(reply))

    def _perform(self, request: Request) -> str:
        """Carry a well-formed request out, all of it or none; answers the reply's `ret_msg`."""
        if request.op == "ping":
            return "pong"
        if request.op not in OPERATIONS:
            raise InputError(f"op: {shorten(request.op)} came, {', '.join(OPERATIONS)} are allowed")
        if not 1 <= len(request.args) <= self._limits.request_args:
            raise InputError(
                f"args: {len(request.args)} topics came, 1 to {self._limits.request_args} are allowed"
            )
        if request.op == "subscribe":
            self._hub.subscribe(self.mailbox, request.args)
        else:
            self._hub.unsubscribe(self.mailbox, request.args)
        return ""


class StreamServer:
    """All connections of the service: admits, counts, sweeps and closes them."""

    def __init__(self, hub: Hub, limits: StreamLimits) -> None:
        self.limits = limits
        self.sessions: set[StreamSession] = set()
        self.accepted = 0
        self.refused = 0
        self.cut_off = 0
        self.missed_by_ended_sessions = 0
        self._hub = hub
        self._closing: Closing | None = None

    @property
    def missed(self) -> int:
        """How many messages were left out for clients that did not keep up, over all connections."""
        return self.missed_by_ended_sessions + sum(session.mailbox.missed for session in self.sessions)

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one connection to its end; one too many, or one at the end, is closed with the reason."""
        await websocket.accept()
        if self._closing is not None or len(self.sessions) >= self.limits.connections:
            self.refused += 1
            full = Closing(TRY_AGAIN_LATER, f"all {self.limits.connections} connections are taken")
            closing = self._closing or full
            await websocket.close(closing.code, closing.reason)
            return
        session = StreamSession(websocket, self._hub, self.limits)
        self.sessions.add(session)
        self.accepted += 1
        logger.debug("client %s connected", session.connection_id)
        try:
            await session.run()
        finally:
            self.sessions.discard(session)
            self.missed_by_ended_sessions += session.mailbox.missed
            logger.debug("client %s left", session.connection_id)

    async def sweep_forever(self) -> None:
        """Cut off, several times within the send timeout, whoever has stopped reading."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.limits.send_timeout_s / 4)
            for session in list(self.sessions):
                if session.cut_off_if_stuck(loop.time()):
                    self.cut_off += 1
                    logger.warning(
                        "client %s cut off: it took no message for %g s",
                        session.connection_id,
                        self.limits.send_timeout_s,
                    )

    async def close_all(self, code: int, reason: str) -> None:
        """Send every client what waits for it, then close; returns when all are gone, or cut off."""
        self._closing = Closing(code, reason)
        for session in self.sessions:
            session.mailbox.close(code, reason)
        deadline_s = asyncio.get_running_loop().time() + self.limits.close_timeout_s
        while self.sessions and asyncio.get_running_loop().time() < deadline_s:
            await asyncio.sleep(0.01)
