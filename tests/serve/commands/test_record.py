"""`mambalob record` in its own process, against an exchange the test scripts."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lob.captures import open_capture
from lob.errors import MambalobError
from tests.serve.waiting import until

pytestmark = pytest.mark.anyio


def written(part: Path) -> int:
    """How many frames of a recording that goes on can be read by now."""
    try:
        return sum(1 for _ in open_capture(part))
    except MambalobError:  # it is not there yet, or its header is not
        return 0


async def record_until_ctrl_c(exchange, path: Path, frames: list[bytes]) -> tuple[int | None, dict, str]:
    """Record the answer to the subscription and `frames`; the exit code, the summary and what was said."""
    exchange.snapshots = False
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "mambalob", "record", "--symbol", "BTCUSDT", "--out", str(path), "--url", exchange.url),
        *("--tick-size", "0.10", "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await until(lambda: len(exchange.requests) == 1)
    await exchange.play(frames)
    part = path.with_name(path.name + ".part")
    await until(lambda: written(part) == len(frames) + 1)
    process.send_signal(signal.SIGINT)
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, json.loads(output), errors.decode()


async def test_the_command_records_until_ctrl_c_and_sums_up(
    tmp_path, scripted_exchange, market_frames
) -> None:
    path = tmp_path / "a folder of its own" / "btc.jsonl.zst"
    async with scripted_exchange() as exchange:
        code, summary, errors = await record_until_ctrl_c(exchange, path, market_frames[:100])
    assert code == 0, errors
    assert summary["path"] == str(path)
    assert summary["frames"] == 101
    assert [frame for _, frame in open_capture(path)][1:] == market_frames[:100]


@pytest.mark.parametrize(
    ("frames", "kept"),
    [(slice(0), "nothing was recorded"), (slice(1, 9), "what came is kept, and is no whole capture")],
    ids=["nothing", "changes alone"],
)
async def test_where_no_book_came_the_command_says_so_and_ends_with_1(
    tmp_path, scripted_exchange, market_frames, frames, kept
) -> None:
    path = tmp_path / "btc.jsonl.zst"
    played = market_frames[frames]
    async with scripted_exchange() as exchange:
        code, summary, errors = await record_until_ctrl_c(exchange, path, played)
    assert code == 1
    last = errors.splitlines()[-1]
    assert last.startswith("Error: no book of BTCUSDT came in ")
    assert last.endswith(f" s; {kept}")
    assert (summary["frames"], summary["files"]) == (len(played) + 1, bool(played))
    assert not summary["holds_book"]
    assert sorted(one.name for one in tmp_path.iterdir()) == (
        ["btc.jsonl.zst", "btc.jsonl.zst.index.json"] if played else []
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--rotate-mib", "nan"), "rotate-mib: nan came, a finite number is allowed"),
        (("--rotate-mib", "inf"), "rotate-mib: inf came, a finite number is allowed"),
        (("--url", "ws://192.0.2.1/v5/public/linear"), "url: ws://192.0.2.1 came without TLS"),
    ],
)
def test_the_command_refuses_before_it_asks_for_the_instrument(tmp_path, arguments, expected) -> None:
    command = ("-m", "mambalob", "record", "--symbol", "BTCUSDT", "--into", str(tmp_path / "captures"))
    address = () if "--url" in arguments else ("--url", "ws://127.0.0.1:9/v5/public/linear")
    done = subprocess.run(
        (sys.executable, *command, *address, *arguments), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {expected}")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
