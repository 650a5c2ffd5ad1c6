"""An exchange that has little to say: each topic's snapshot and some changes, then only answers to pings.

What a service does of its own, or because it is asked over HTTP, shows best where no frames come.
"""

import asyncio
from collections.abc import Sequence
from itertools import islice
from multiprocessing.connection import Connection

from websockets.asyncio.server import ServerConnection, serve

from bench.delta_stream import DeltaStream, DeltaStreamConfig
from serve.exchange_protocol import Wording, read_request


def run_quiet_exchange(pipe: Connection, seed: int, frames: int) -> None:
    """Say the port, then answer each subscription with `frames` frames until the pipe ends."""
    config = DeltaStreamConfig(seed=seed)
    said = [frame.split(config.symbol.encode()) for _, frame in islice(DeltaStream(config), frames)]
    asyncio.run(_serve(pipe, said))


async def _serve(pipe: Connection, said: Sequence[list[bytes]]) -> None:
    async def answer(connection: ServerConnection) -> None:
        wording = Wording(category="linear", connection_id="bench")
        async for text in connection:
            request = read_request(text)
            done = wording.pong(request) if request.op == "ping" else wording.done(request)
            await connection.send(done, text=True)
            if request.op == "subscribe":
                for symbol in (topic.rpartition(".")[2].encode() for topic in request.args):
                    for frame in said:
                        await connection.send(symbol.join(frame), text=True)

    async with serve(answer, "127.0.0.1", 0, compression=None) as server:
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.to_thread(pipe.recv)  # raises EOFError at the end of the run
