"""`mambalob subscribe` in its own process, against the application on a real socket."""

import asyncio
import json
import sys
from contextlib import aclosing

import pytest

from lob.sync import SymbolState
from serve.client import StreamClient
from serve.commands.subscribe import readable
from serve.messages import parse_push

pytestmark = pytest.mark.anyio


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
