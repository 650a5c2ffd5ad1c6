"""A frame made once for many clients is what the library makes for each, and waits for nobody."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from websockets.frames import Opcode
from websockets.server import ServerProtocol

from serve.listener import listen
from serve.socket_protocol import WRITE_NOW_KEY, BoundedWebSocketProtocol, text_frame
from tests.serve.waiting import until

pytestmark = pytest.mark.anyio


class Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the process of the tests."""
        yield


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
def test_a_frame_is_the_one_that_the_library_makes(length: int) -> None:
    protocol = ServerProtocol()
    protocol.state = type(protocol.state).OPEN
    protocol.send_text(b"x" * length)
    assert text_frame(b"x" * length) == b"".join(protocol.data_to_send())
    assert text_frame(b"")[0] == 0x80 | Opcode.TEXT


async def test_a_socket_that_takes_nothing_is_not_written_to() -> None:
    written: list[bool] = []
    accepted = asyncio.Event()
    enough = asyncio.Event()

    async def application(scope, receive, send) -> None:
        assert scope["type"] == "websocket"
        await receive()
        write_now = scope["state"][WRITE_NOW_KEY]
        assert not write_now(text_frame(b"too early"))
        await send({"type": "websocket.accept"})
        accepted.set()
        while not written or written[-1]:  # the client reads nothing
            written.append(write_now(text_frame(b"x" * 10_000)))
            await asyncio.sleep(0)
        await enough.wait()
        await send({"type": "websocket.close", "code": 1000})
        assert not write_now(text_frame(b"too late"))
        written.append(True)

    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(
        application,
        ws=BoundedWebSocketProtocol,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
    )
    server = Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(20):
        await loop.sock_connect(client, listener.getsockname())
        await loop.sock_sendall(
            client,
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )
        await accepted.wait()
        await until(lambda: bool(written) and not written[-1])
        assert len(written) > 1
        enough.set()
        while not written[-1]:  # the application has said its last word
            await loop.sock_recv(client, 65_536)
    client.close()
    server.should_exit = True
    await serving
