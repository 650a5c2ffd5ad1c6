"""`mambalob record` in its own process, against an exchange the test scripts."""

import asyncio
import json
import signal
import sys

import pytest

from lob.captures import open_capture
from tests.serve.waiting import until

pytestmark = pytest.mark.anyio


async def test_the_command_records_until_ctrl_c_and_sums_up(
    tmp_path, scripted_exchange, market_frames
) -> None:
    path = tmp_path / "a folder of its own" / "btc.jsonl.zst"
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "mambalob", "record", "--symbol", "BTCUSDT", "--out", str(path), "--url", exchange.url),
            *("--tick-size", "0.10", "--json"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        await until(lambda: len(exchange.requests) == 1, 30)
        await exchange.play(market_frames[:100])
        await until(lambda: path.with_name(path.name + ".part").exists())
        await asyncio.sleep(0.5)
        process.send_signal(signal.SIGINT)
        output, errors = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 0, errors
    summary = json.loads(output)
    assert summary["path"] == str(path)
    assert summary["frames"] == 101
    assert [frame for _, frame in open_capture(path)][1:] == market_frames[:100]
