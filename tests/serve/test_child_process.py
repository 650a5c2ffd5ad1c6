"""Children that are the product's own commands."""

import asyncio
import os
from pathlib import Path

import pytest

from serve.child_process import ChildError, ChildProcess

pytestmark = pytest.mark.anyio


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_child_says_where_it_listens_and_is_ended_with_its_context() -> None:
    async with ChildProcess("exchange", "--simulate", "--port", "0") as child:
        await child.start(60)
        assert child.report["url"].startswith("ws://127.0.0.1:")
        pid = child._process.pid
        assert is_running(pid)
    assert not is_running(pid)
    await child.stop()


async def test_a_child_runs_our_code_whatever_the_working_directory_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("serve", "lob"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    async with ChildProcess("exchange", "--simulate", "--port", "0") as child:
        await child.start(60)
        assert child.report["url"].startswith("ws://127.0.0.1:")


async def test_a_child_is_ended_also_when_its_parent_is_cancelled_twice() -> None:
    child = ChildProcess("exchange", "--simulate", "--port", "0")
    running = asyncio.Event()

    async def parent() -> None:
        async with child:
            await child.start(60)
            running.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(parent())
    await asyncio.wait_for(running.wait(), 60)
    pid = child._process.pid
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=10)
    assert task.done()
    assert not is_running(pid)


async def test_a_child_that_fails_gives_its_last_words() -> None:
    async with ChildProcess("exchange", "no-such-capture") as child:
        with pytest.raises(
            ChildError, match=r"mambalob exchange ended with code 1 before it came up: .*no-such"
        ):
            await child.start(60)


async def test_a_child_that_says_nothing_is_not_waited_for_without_end() -> None:
    async with ChildProcess("exchange", "--simulate", "--port", "0") as child:
        with pytest.raises(ChildError, match=r"did not come up within 0\.01 s"):
            await child.start(0.01)
        pid = child._process.pid
    assert not is_running(pid)
