"""The product's own client and `mambalob subscribe`, against the application on a real socket."""

import asyncio
import json
from contextlib import aclosing

import pytest

from lob.errors import InputError
from serve.client import StreamClient
from serve.reconnect import ReconnectPolicy
from tests.serve.waiting import until

pytestmark = pytest.mark.anyio

QUICK = ReconnectPolicy(initial_s=0.02, factor=1, cap_s=0.02)


async def read_all(messages) -> None:
    async for _ in messages:
        pass


async def test_gives_every_message_and_its_bytes(running_app) -> None:
    async with running_app() as app:
        app.go_live()
        client = StreamClient(app.stream, ["BTCUSDT"])
        received = []
        async with aclosing(client.messages()) as messages:
            async for push, text in messages:
                assert json.loads(text)["seq"] == push.seq
                received.append(push)
                if len(received) == 11:
                    break
                app.publish(len(received))
        assert [push.type for push in received] == ["state"] + ["prediction"] * 10
        assert [push.seq for push in received] == list(range(1, 12))
        assert (client.missed, client.connections) == (0, 1)
        await until(lambda: not app.streams.sessions)


async def test_connects_again_after_a_lost_connection(running_app) -> None:
    async with running_app() as app:
        app.go_live()
        client = StreamClient(app.stream, ["BTCUSDT"], QUICK)
        states = 0
        async with aclosing(client.messages()) as messages:
            async for push, _ in messages:
                assert push.type == "state"
                states += 1
                if states == 3:
                    break
                (session,) = app.streams.sessions
                session._abort()
        assert client.connections == 3


async def test_the_first_connection_must_succeed_and_a_refusal_is_final(running_app) -> None:
    async with running_app() as app:
        with pytest.raises(InputError, match=r"refuses the subscription: args: 'prediction.DOGE' came"):
            await anext(StreamClient(app.stream, ["DOGE"]).messages())
        with pytest.raises(InputError, match="cannot connect: server rejected WebSocket connection: HTTP 40"):
            await anext(StreamClient(f"{app.stream}/none", ["BTCUSDT"]).messages())
    with pytest.raises(InputError, match="cannot connect: "):
        await anext(StreamClient(app.stream, ["BTCUSDT"]).messages())
    with pytest.raises(InputError, match="url: 'http://x' came"):
        StreamClient("http://x", ["BTCUSDT"])


async def test_gives_up_when_the_policy_says_so(running_app) -> None:
    told = ReconnectPolicy(initial_s=0.01, cap_s=0.01, attempts=3)
    async with running_app() as app:
        messages = StreamClient(app.stream, ["BTCUSDT"], told).messages()
        await anext(messages)
    with pytest.raises(InputError, match="given up after 3 attempts: cannot connect"):
        await asyncio.wait_for(read_all(messages), 5)
