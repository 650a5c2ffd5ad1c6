"""The product's own client and `mambalob subscribe`, against the application on a real socket."""

import asyncio
import json
import sys
from contextlib import aclosing

import pytest

from lob.errors import InputError
from lob.sync import SymbolState
from serve.client import StreamClient
from serve.commands.subscribe import readable
from serve.messages import parse_push
from serve.reconnect import ReconnectPolicy

pytestmark = pytest.mark.anyio

QUICK = ReconnectPolicy(initial_s=0.02, factor=1, cap_s=0.02)


async def until(condition, timeout_s: float = 5) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


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


async def run_subscribe(*arguments: str) -> tuple[int, str, str]:
    """`mambalob subscribe` in its own process; answers its exit code, output and errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mambalob",
        "subscribe",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def test_the_command_prints_the_stream_and_ends_at_its_count(running_app) -> None:
    async with running_app() as app:
        app.go_live()

        async def publish() -> None:
            update_id = 0
            while True:
                update_id += 1
                app.publish(update_id)
                await asyncio.sleep(0.01)

        publishing = asyncio.create_task(publish())
        options = ("--url", app.stream, "--symbol", "BTCUSDT", "--count", "5")
        plain, as_json = await asyncio.gather(run_subscribe(*options), run_subscribe(*options, "--json"))
        publishing.cancel()
    assert plain[0] == as_json[0] == 0, plain[2] + as_json[2]
    lines = plain[1].splitlines()
    assert lines[0] == "BTCUSDT  live"
    assert len(lines) == 6
    assert "mid 100.5  10: up   0.500" in lines[1]
    messages = [json.loads(line) for line in as_json[1].splitlines()]
    assert [message["type"] for message in messages] == ["state"] + ["prediction"] * 5
    updates = [message["data"]["update_id"] for message in messages[1:]]
    assert updates == list(range(updates[0], updates[0] + 5))


async def test_the_command_says_in_one_line_what_is_wrong() -> None:
    code, output, errors = await run_subscribe("--url", "ws://127.0.0.1:1/v1/stream", "--symbol", "BTCUSDT")
    assert code == 1
    assert output == ""
    assert len(errors.splitlines()) == 1
    assert "ws://127.0.0.1:1/v1/stream: cannot connect: " in errors


async def test_a_message_for_people_tells_what_was_missed(running_app) -> None:
    async with running_app() as app:
        app.hub.publish_state("BTCUSDT", SymbolState.STALE, "gap")
        async with aclosing(StreamClient(app.stream, ["BTCUSDT"]).messages()) as messages:
            _, text = await anext(messages)
    push = parse_push(text.replace(b"}}", b'},"missed":3}'))
    assert readable(push) == "BTCUSDT  stale: gap  (3 missed before)"
