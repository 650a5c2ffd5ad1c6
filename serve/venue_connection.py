"""One websocket connection to an exchange: verified, bounded, uncompressed, every message stamped on arrival.

Built on `websockets`, chosen by its documentation: text frames can be had as bytes (`recv(decode=False)`), a
cancelled `recv` loses nothing, reading pauses when the queue is full, fragments are put together,
certificates are verified, and a connection class of one's own is a documented option. picows delivers
sooner and leaves the fragments to its caller; aiohttp would be a second websocket implementation beside
this one, which the service's own server stands on.
"""

import ipaddress
from asyncio import timeout
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.frames import Frame, Opcode
from websockets.protocol import Event

from lob.errors import InputError

MAXIMUM_FRAME_BYTES = 4 * 1024 * 1024
"""A longer message ends the connection (1009); a snapshot of 1000 levels a side has some 50 kB."""

QUEUED_FRAMES = 256
"""So many frames may wait in the process before reading from the socket pauses."""

OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 0.5

_FIRST_OF_MESSAGE = (Opcode.TEXT, Opcode.BINARY)
_OF_MESSAGE = (*_FIRST_OF_MESSAGE, Opcode.CONT)


class ConnectionEndedError(Exception):
    """This connection is over; its text says why. The feed makes a new one."""


class StampedConnection(ClientConnection):
    """A client connection that notes when each message's first frame was read from the socket.

    `receive` stamps with that time, not with the time at which it got around to the message: what waited in
    the process counts as latency.

    `on_full` is called when so many messages wait that reading from the socket pauses. Nothing is lost then:
    the operating system's buffers fill, the exchange can send no more, and in the end it closes.
    """

    def __init__(
        self, *arguments: Any, now_ns: Callable[[], int], on_full: Callable[[], None], **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._now_ns = now_ns
        self._on_full = on_full
        self._full = False
        self._arrivals_ns: deque[int] = deque()
        self.whole_messages = 0
        """Messages that have arrived to their end: `receive` answers so many times without waiting."""

    @property
    def waiting(self) -> int:
        """Messages that have arrived and not been received yet."""
        return len(self._arrivals_ns)

    def process_event(self, event: Event) -> None:
        """Note the time of a frame that begins a message, and the end of one."""
        if isinstance(event, Frame) and event.opcode in _OF_MESSAGE:
            if event.opcode in _FIRST_OF_MESSAGE:
                self._arrivals_ns.append(self._now_ns())
                if len(self._arrivals_ns) > QUEUED_FRAMES and not self._full:
                    self._full = True
                    self._on_full()
            self.whole_messages += event.fin
        super().process_event(event)

    async def receive(self) -> tuple[bytes, int]:
        """The next message's bytes and its arrival in nanoseconds; raises ConnectionClosed at the end."""
        frame = await self.recv(decode=False)
        arrivals_ns = self._arrivals_ns
        receive_ns = arrivals_ns.popleft()
        self.whole_messages -= 1
        if self._full and len(arrivals_ns) <= QUEUED_FRAMES // 4:  # where reading goes on
            self._full = False
        return frame, receive_ns

    async def send_within(self, frame: str, timeout_s: float) -> None:
        """Send a text frame; raises ConnectionEndedError where the exchange does not take it in time."""
        try:
            async with timeout(timeout_s):
                await self.send(frame)
        except TimeoutError:
            raise _takes_nothing(timeout_s) from None

    async def ping_within(self, timeout_s: float) -> Awaitable[float]:
        """Send a websocket ping, as `send_within`; what it answers is done when the pong comes."""
        try:
            async with timeout(timeout_s):
                return await self.ping()
        except TimeoutError:
            raise _takes_nothing(timeout_s) from None


def _takes_nothing(timeout_s: float) -> ConnectionEndedError:
    return ConnectionEndedError(f"the exchange took no request for {timeout_s:g} s")


def open_connection(
    url: str, now_ns: Callable[[], int], on_full: Callable[[], None] = lambda: None
) -> connect:
    """A connection to `url` as an asynchronous context manager; `now_ns` is the clock of the stamps.

    TLS certificates and host names of wss:// addresses are verified. A proxy the environment names is used,
    except for an address of this machine. Entering raises OSError, TimeoutError or InvalidHandshake.
    """

    def stamped(*arguments: Any, **options: Any) -> StampedConnection:
        return StampedConnection(*arguments, now_ns=now_ns, on_full=on_full, **options)

    return connect(
        url,
        create_connection=stamped,  # type: ignore[arg-type]  # typed as a class, documented as a factory
        compression=None,
        max_size=MAXIMUM_FRAME_BYTES,
        max_queue=QUEUED_FRAMES,
        open_timeout=OPEN_TIMEOUT_S,
        close_timeout=CLOSE_TIMEOUT_S,
        ping_interval=None,  # the exchange's own ping is the heartbeat
        proxy=None if is_this_machine(url) else True,
    )


def check_transport(url: str, *, allow_plaintext: bool) -> None:
    """Raises InputError for an address without TLS on another machine, unless that is allowed.

    Without TLS anybody on the way can read the feed and, what is worse, write it.
    """
    if urlsplit(url).scheme in ("ws", "http") and not is_this_machine(url) and not allow_plaintext:
        raise InputError(
            f"url: {urlsplit(url).scheme}://{urlsplit(url).hostname} came without TLS; allowed: wss://, "
            "or an address of this machine, or --allow-plaintext for a network you trust"
        )


def is_this_machine(url: str) -> bool:
    """Whether an address is a loopback one; what is no address at all is none."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
