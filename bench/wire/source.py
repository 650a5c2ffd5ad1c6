"""The exchange of a run over sockets: one client, one topic, frames made before and sent at their times.

It says on Bybit's stream what a feed needs: the answer to its subscription, then a snapshot and deltas. It is
no `serve.exchange.Exchange`, which keeps a book of its own and waits by its event loop: between a frame's
intended time and the socket there is to be nothing here but the call that writes.
"""

import socket
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from time import perf_counter_ns
from typing import Final

import numpy as np
from numpy.typing import NDArray
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from bench.frame_source import seeded_source
from bench.harness import garbage_collector_off
from bench.open_loop import wait_until
from bench.wire.phases import Phase
from bench.wire.processes import ProcessEndedError
from serve.exchange_protocol import Wording, read_request

START_NS: Final = 20_000_000
"""From the order to send a phase to its first frame's time."""
WATCH_NS: Final = 100_000
"""So long before a frame's time the clock is watched: less than in `bench.open_loop`, where nobody else
needs the core."""
SILENCE_S: Final = 5.0
"""A closed loop goes on after so long without a receipt."""
CONNECT_S: Final = 300.0
"""The service connects when it has started, and a first start compiles the kernels."""
HANDSHAKE_S: Final = 30.0
READ_BYTES: Final = 65_536


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A phase's frames as they were sent: their updates follow one another from `first_update_id` on."""

    first_update_id: int
    due_ns: NDArray[np.int64]  # (frames,); where no time was intended, that of sending
    sent_ns: NDArray[np.int64]  # (frames,), read before the call that writes

    @property
    def updates(self) -> slice:
        """Their places in an array with a place for every update of the run."""
        return slice(self.first_update_id, self.first_update_id + self.due_ns.size)


def run_source(pipe: Connection, receipts: Connection, seed: int, lead_in: int, frames: int) -> None:
    """Say the port, serve one client `lead_in` frames at once, then `frames` in the phases that are ordered.

    Each order is a `Phase`, its answer a `Sent`. A byte string on `receipts` says that every fast subscriber
    has received what came of the last frame.
    """
    texts = [frame for _, frame in islice(seeded_source(seed).passes(), lead_in + frames)]
    written = [Frame(Opcode.TEXT, text).serialize(mask=False) for text in texts]
    with garbage_collector_off(), socket.create_server(("127.0.0.1", 0)) as listener:
        pipe.send(listener.getsockname()[1])
        listener.settimeout(CONNECT_S)
        client, _ = listener.accept()
        with client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answer_subscriptions(client)
            for frame in written[:lead_in]:
                client.sendall(frame)
            pipe.send(lead_in)
            sent = lead_in
            while True:
                phase: Phase = pipe.recv()
                pipe.send(_send(client, receipts, phase, written[sent : sent + phase.frames], sent + 1))
                sent += phase.frames


def answer_subscriptions(client: socket.socket, topics: int = 1) -> None:
    """Take the websocket's handshake and the requests that a feed of so many topics makes."""
    client.settimeout(HANDSHAKE_S)
    protocol = ServerProtocol()
    while topics > 0:
        received = client.recv(READ_BYTES)
        if not received:
            raise ProcessEndedError("the service left before it had subscribed")
        protocol.receive_data(received)
        for event in protocol.events_received():
            if isinstance(event, Request):
                protocol.send_response(protocol.accept(event))
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                request = read_request(bytes(event.data))
                protocol.send_text(Wording(category="linear", connection_id="bench").done(request))
                topics -= len(request.args)
        client.sendall(b"".join(protocol.data_to_send()))
    client.settimeout(None)


def _send(
    client: socket.socket, receipts: Connection, phase: Phase, frames: list[bytes], first_update_id: int
) -> Sent:
    """Send a phase's frames at their times, or each after the last one's receipt."""
    while receipts.poll():
        receipts.recv_bytes()  # of a frame that was given up
    intended_ns = phase.due_ns()
    due_ns = np.zeros(len(frames), dtype=np.int64)
    sent_ns = np.zeros(len(frames), dtype=np.int64)
    if intended_ns is not None:
        due_ns[:] = intended_ns + perf_counter_ns() + START_NS
    times_ns = due_ns.tolist()
    for index, frame in enumerate(frames):
        if intended_ns is not None:
            wait_until(times_ns[index], watch_ns=WATCH_NS)
        sent_ns[index] = perf_counter_ns()
        client.sendall(frame)
        if intended_ns is None and receipts.poll(SILENCE_S):
            receipts.recv_bytes()
    if intended_ns is None:
        due_ns = sent_ns
    return Sent(first_update_id=first_update_id, due_ns=due_ns, sent_ns=sent_ns)
