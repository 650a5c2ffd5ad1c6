"""What waits to be sent on one connection: bounded, so that a slow client costs memory and time to nobody."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from serve.faults import Sent

logger = logging.getLogger(__name__)

TOO_SLOW = 1008
"""The websocket close code of a client that does not keep up (policy violation)."""

CLOSING_S = 1.0
"""How long a client may take to answer the end of its connection before it is cut off."""


SPARE_FRAMES = 256
"""Room for answers beyond the bound of a market's frames, so that a full outbox can still be asked."""


class Outbox:
    """The frames that wait for one client, sent in order by `run`.

    `offer` never waits: it ends the connection of a client for whom `maximum_frames` wait, and `answer` that
    of one for whom SPARE_FRAMES more do. `put` waits for room, and ends the connection where there is none
    for `patience_s`. Each time `on_overrun` is called.
    """

    def __init__(
        self,
        connection: ServerConnection,
        *,
        maximum_frames: int,
        patience_s: float,
        on_overrun: Callable[[], None],
    ) -> None:
        self._on_overrun = on_overrun
        self._connection = connection
        self._maximum_frames = maximum_frames
        self._patience_s = patience_s
        self._frames: deque[Sent] = deque()
        self.sent_s = asyncio.get_running_loop().time()
        """When something was last handed to the connection, on the event loop's clock."""
        self._ended = False
        self._last_words: tuple[int, str] | None = None
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._cutting: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Send what is offered until the connection ends."""
        clock = asyncio.get_running_loop().time
        try:
            while True:
                while self._frames:
                    frame = self._frames.popleft()
                    self._room.set()
                    if isinstance(frame, bytes):
                        await self._connection.send(frame, text=True)
                    else:
                        await frame.perform(self._connection)
                    self.sent_s = clock()
                if self._last_words is not None:
                    await self._connection.close(*self._last_words)
                    return
                self._work.clear()
                await self._work.wait()
        except ConnectionClosed:
            pass
        finally:
            self._end()

    def offer(self, frame: Sent) -> None:
        """Let one frame of a market be sent after those that wait."""
        self._append(frame, self._maximum_frames)

    def answer(self, frame: bytes) -> None:
        """Let `frame`, which the client has asked for, be sent after those that wait."""
        self._append(frame, self._maximum_frames + SPARE_FRAMES)

    async def put(self, frame: Sent) -> None:
        """Let one frame of a market be sent as soon as there is room."""
        while len(self._frames) >= self._maximum_frames and not self._ended:
            self._room.clear()
            try:
                async with asyncio.timeout(self._patience_s):
                    await self._room.wait()
            except TimeoutError:
                self._overrun(f"too slow: nothing was taken for {self._patience_s:g} s")
        self.offer(frame)

    def close(self, code: int, reason: str) -> None:
        """End the connection once everything that waits has been sent."""
        self._last_words = (code, reason)
        self._work.set()

    async def cut(self, code: int, reason: str) -> None:
        """End the connection now; what waits is not sent."""
        self._end()
        try:
            async with asyncio.timeout(CLOSING_S):
                await self._connection.close(code, reason)
        except TimeoutError:
            # The close frame itself waits behind what the client does not read.
            self._connection.transport.abort()

    def _append(self, frame: Sent, maximum_frames: int) -> None:
        if self._ended:
            return
        if len(self._frames) >= maximum_frames:
            self._overrun(f"too slow: {len(self._frames)} messages are waiting")
            return
        self._frames.append(frame)
        self._work.set()

    def _overrun(self, reason: str) -> None:
        self._on_overrun()
        logger.warning("connection %s ended: %s", self._connection.id, reason)
        self._end()
        # The task is kept here: the event loop itself holds no reference to it.
        self._cutting = asyncio.create_task(self.cut(TOO_SLOW, reason), name="outbox cut")

    def _end(self) -> None:
        self._ended = True
        self._frames.clear()
        self._room.set()
