"""Raw sockets that connect and say half of what they should: none keeps its connection for long."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest
from websockets.asyncio.client import connect

from lob.errors import InputError
from serve.http_protocol import ConnectionCounters, ConnectionLimits
from tests.serve.waiting import until

pytestmark = pytest.mark.anyio

WHOLE = b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n"
SHORT = ConnectionLimits(request_timeout_s=0.3)


@asynccontextmanager
async def raw_connection(app):
    reader, writer = await asyncio.open_connection(app.host, app.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the service ends the connection, in good order or by a reset."""
    received = bytearray()
    try:
        async with asyncio.timeout(10):
            while some := await reader.read(4_096):
                received += some
    except ConnectionResetError:
        pass
    return bytes(received)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /hea",
        b"GET /healthz HTTP/1.1\r\nHost: here\r\n",
        b"GET /v1/stream HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    ],
)
async def test_half_a_head_is_not_waited_for(running_app, said) -> None:
    async with running_app(connection_limits=SHORT) as app, raw_connection(app) as (reader, writer):
        writer.write(said)
        assert await read_to_end(reader) == b""
        await until(lambda: not app.server.standing_connections)
        assert app.server.connection_counters == ConnectionCounters(late=1)


async def test_a_head_that_drips_gains_no_time(running_app) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.02)

    async with running_app(connection_limits=SHORT) as app, raw_connection(app) as (reader, writer):
        writer.write(b"GET /")
        dripping = asyncio.create_task(drip(writer))
        assert await read_to_end(reader) == b""
        dripping.cancel()
        await until(lambda: not app.server.standing_connections)
        assert app.server.connection_counters == ConnectionCounters(late=1)


@pytest.mark.parametrize("second", [WHOLE[:20], WHOLE[:-2] + b"Content-Length: 9\r\n\r\nhalf"])
async def test_a_second_request_that_never_ends_is_not_waited_for(running_app, second) -> None:
    async with running_app(connection_limits=SHORT) as app, raw_connection(app) as (reader, writer):
        writer.write(WHOLE)
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
        writer.write(second)
        await read_to_end(reader)
        await until(lambda: not app.server.standing_connections)
        assert app.server.connection_counters == ConnectionCounters(late=1)


async def test_what_is_whole_in_time_is_answered_and_a_websocket_stays(running_app) -> None:
    async with running_app(connection_limits=SHORT) as app, connect(app.stream) as websocket:
        async with raw_connection(app) as (reader, writer):
            for part in (WHOLE[:9], WHOLE[9:30], WHOLE[30:]):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.01)
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
            assert await read_to_end(reader) == b""  # the idle connection has its end as well
        await websocket.send('{"op":"ping"}')  # long after a request's time
        assert '"pong"' in await asyncio.wait_for(websocket.recv(), 5)


async def test_one_connection_more_is_cut_off_and_an_end_makes_room(running_app) -> None:
    limits = ConnectionLimits(connections=3, request_timeout_s=30)
    async with running_app(connection_limits=limits) as app, AsyncExitStack() as held:
        await held.enter_async_context(connect(app.stream))
        for _ in range(2):
            _, writer = await held.enter_async_context(raw_connection(app))
        await until(lambda: app.server.standing_connections == 3)
        for count in (1, 2):
            async with raw_connection(app) as (reader, _):
                assert await read_to_end(reader) == b""
            assert app.server.connection_counters == ConnectionCounters(full=count)
        writer.close()
        await until(lambda: app.server.standing_connections == 2)
        async with httpx.AsyncClient(base_url=app.http) as client:
            assert (await client.get("/healthz")).status_code == 200


async def test_limits_that_admit_nobody_are_refused() -> None:
    with pytest.raises(InputError, match="connections: 0 came, 1 or more is allowed"):
        ConnectionLimits(connections=0)
    with pytest.raises(InputError, match="request_timeout_s: 0 came, above 0 is allowed"):
        ConnectionLimits(request_timeout_s=0)
