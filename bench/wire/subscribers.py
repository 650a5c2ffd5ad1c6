"""The subscribers of a run over sockets, all in one process that reads the clock as soon as bytes are there.

They are no `serve.client.StreamClient`s: what a client library takes to read a message is not the service's
time, and thirty of them would measure each other. Each is a socket; whatever is there to be read is read from
all of them, each with a reading of the clock, before any of it is looked at.
"""

import selectors
import socket
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from time import perf_counter_ns
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from bench.harness import garbage_collector_off
from bench.wire.processes import ProcessEndedError
from serve.messages import Request, encode_text, topic_name

READ_BYTES: Final = 262_144
CONNECT_S: Final = 10.0
SLOW_READ_BYTES: Final = 1_024
SLOW_EVERY_NS: Final = 64_000_000
"""A slow subscriber reads so much so often: 16 kB a second, some 25 messages."""
SLOW_BUFFER_BYTES: Final = 4_096
DRAIN_NS: Final = 20_000_000_000
"""What has not come so long after a phase's last frame does not come."""
NEVER: Final = 2**63 - 1
"""An update that never comes: the phase goes on."""

_UPDATE_ID = b'"update_id":'
_EXTENDED, _LONG = 126, 127


@dataclass(frozen=True, kw_only=True)
class Connect:
    """Order: so many connections, `slow` of them reading slowly, subscribed to `symbol` at `port`."""

    port: int
    symbol: str
    subscribers: int
    slow: int


@dataclass(frozen=True, kw_only=True)
class Collect:
    """Order: when every fast connection has `last_update_id`, close them all and say what came."""

    last_update_id: int


@dataclass(frozen=True, kw_only=True)
class Received:
    """What came to one subscriber: predictions in the order of their coming."""

    slow: bool
    update_ids: NDArray[np.int64]  # (messages,)
    receipt_ns: NDArray[np.int64]  # (messages,)


@dataclass
class _Subscriber:
    socket: socket.socket
    slow: bool
    buffer: bytearray
    update_ids: list[int] = field(default_factory=list)
    receipt_ns: list[int] = field(default_factory=list)

    def take(self, received: bytes, now_ns: int) -> int:
        """Take bytes in that were there at `now_ns`; the newest update they told of, 0 for none.

        Raises ProcessEndedError where the service has closed the connection.
        """
        if not received:
            raise ProcessEndedError("the service closed a subscriber's connection")
        self.buffer += received
        newest = 0
        for opcode, payload in take_frames(self.buffer):
            if opcode is Opcode.TEXT:
                place = payload.find(_UPDATE_ID)
                if place >= 0:
                    start = place + len(_UPDATE_ID)
                    newest = int(payload[start : payload.index(b",", start)])
                    self.update_ids.append(newest)
                    self.receipt_ns.append(now_ns)
            elif opcode is Opcode.PING:
                self.socket.sendall(Frame(Opcode.PONG, payload).serialize(mask=True))
            elif opcode is Opcode.CLOSE:
                raise ProcessEndedError(f"the service closed a subscriber's connection: {payload!r}")
        return newest


def take_frames(buffer: bytearray) -> list[tuple[Opcode, bytes]]:
    """Take the whole websocket frames off the front of `buffer`: unmasked, unfragmented, as a server sends.

    RFC 6455, section 5.2. What is left is the beginning of a frame that has not come yet.
    """
    frames = []
    start, available = 0, len(buffer)
    while available - start >= 2:
        length, body = buffer[start + 1], start + 2
        if length >= _EXTENDED:
            body += 2 if length == _EXTENDED else 8
            if body > available:
                break
            length = int.from_bytes(buffer[start + 2 : body], "big")
        if body + length > available:
            break
        frames.append((Opcode(buffer[start] & 0x0F), bytes(buffer[body : body + length])))
        start = body + length
    del buffer[:start]
    return frames


def run_subscribers(pipe: Connection, receipts: Connection) -> None:
    """Connect and collect as ordered; a byte on `receipts` whenever every fast one has a newer update.

    Answers a `Connect` with the number of connections, a `Collect` with a list of `Received`.
    """
    with garbage_collector_off():
        while True:
            order = pipe.recv()
            assert isinstance(order, Connect), order
            subscribers = [_connect(order, slow=number < order.slow) for number in range(order.subscribers)]
            pipe.send(len(subscribers))
            try:
                _read_until_told(pipe, receipts, subscribers)
            finally:
                for one in subscribers:
                    one.socket.close()
            pipe.send(
                [
                    Received(
                        slow=one.slow,
                        update_ids=np.array(one.update_ids, dtype=np.int64),
                        receipt_ns=np.array(one.receipt_ns, dtype=np.int64),
                    )
                    for one in subscribers
                ]
            )


def _read_until_told(pipe: Connection, receipts: Connection, subscribers: list[_Subscriber]) -> None:
    """Read from all until `pipe` orders to collect and what it waits for is there, or does not come."""
    fast = {one.socket.fileno(): one for one in subscribers if not one.slow}
    slow = [one for one in subscribers if one.slow]
    newest = dict.fromkeys(fast, 0)
    told = slow_ns = 0
    last_update_id, deadline_ns = NEVER, 0
    clock = perf_counter_ns
    with selectors.DefaultSelector() as selector:
        for descriptor in (pipe.fileno(), *fast):
            selector.register(descriptor, selectors.EVENT_READ)
        while told < last_update_id and (last_update_id == NEVER or clock() < deadline_ns):
            wakes = slow or last_update_id != NEVER
            ready = [key.fd for key, _ in selector.select(SLOW_EVERY_NS / 1e9 if wakes else None)]
            came = [
                (descriptor, fast[descriptor].socket.recv(READ_BYTES), clock())
                for descriptor in ready
                if descriptor in fast
            ]
            for descriptor, received, now_ns in came:
                newest[descriptor] = fast[descriptor].take(received, now_ns) or newest[descriptor]
            everywhere = min(newest.values())
            if everywhere > told:
                told = everywhere
                receipts.send_bytes(b"\0")
            if slow and clock() - slow_ns >= SLOW_EVERY_NS:
                slow_ns = clock()
                for one in slow:
                    _read_a_little(one)
            if pipe.fileno() in ready:
                order = pipe.recv()
                assert isinstance(order, Collect), order
                last_update_id, deadline_ns = order.last_update_id, clock() + DRAIN_NS


def _read_a_little(one: _Subscriber) -> None:
    try:
        received = one.socket.recv(SLOW_READ_BYTES, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return
    one.take(received, perf_counter_ns())


def _connect(order: Connect, *, slow: bool) -> _Subscriber:
    """A connection that has subscribed and been told so."""
    made = socket.socket()
    made.settimeout(CONNECT_S)
    if slow:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER_BYTES)
    made.connect(("127.0.0.1", order.port))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{order.port}/v1/stream"))
    protocol.send_request(protocol.connect())
    made.sendall(b"".join(protocol.data_to_send()))
    while not protocol.events_received():
        protocol.receive_data(made.recv(READ_BYTES))
    if protocol.handshake_exc is not None:
        raise protocol.handshake_exc
    request = encode_text(Request("subscribe", "1", [topic_name(order.symbol)])).encode()
    made.sendall(Frame(Opcode.TEXT, request).serialize(mask=True))
    buffer = bytearray()
    while not (frames := take_frames(buffer)):
        buffer += made.recv(READ_BYTES)
    reply = msgspec.json.decode(frames[0][1])
    if not reply.get("success"):
        raise ProcessEndedError(f"the service refused a subscription: {reply}")
    made.settimeout(None)
    return _Subscriber(socket=made, slow=slow, buffer=buffer)
