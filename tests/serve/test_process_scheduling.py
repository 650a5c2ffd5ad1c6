"""Another process gives way to this one, and leaves the event loop's core alone."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.process_scheduling import (
    LOWEST_PRIORITY,
    _own_core,
    keep_on,
    let_give_way,
    spare_cores,
    threads_of,
)

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="asks Linux' scheduler, with a core to spare",
)

TWO_THREADS = "import threading; threading.Thread(target=input).start(); print(flush=True)"


@pytest.fixture
def other() -> Iterator[int]:
    command = (sys.executable, "-c", TWO_THREADS)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


@pytest.fixture
def own() -> Iterator[set[int]]:
    cores = os.sched_getaffinity(0)
    yield cores
    os.sched_setaffinity(0, cores)


def leave_spare_cores_to(pid: int) -> None:
    for thread in threads_of(pid):
        keep_on(thread, spare_cores())


def test_it_leaves_the_cores_that_this_process_is_kept_on(other: int, own: set[int]) -> None:
    kept = {min(own)}
    os.sched_setaffinity(0, kept)
    leave_spare_cores_to(other)
    threads = list(Path(f"/proc/{other}/task").iterdir())
    assert len(threads) == 2
    for thread in threads:
        assert os.sched_getaffinity(int(thread.name))
        assert not os.sched_getaffinity(int(thread.name)) & kept


def test_it_leaves_the_core_that_the_loop_ran_on_last(other: int, own: set[int]) -> None:
    if len(own) < (os.cpu_count() or 1):
        pytest.skip("this process is kept on some cores itself")
    for core in sorted(own)[:2]:  # the second time what was left out the first is there again
        os.sched_setaffinity(0, {core})  # which moves this thread there
        assert _own_core() == core
        os.sched_setaffinity(0, own)
        leave_spare_cores_to(other)
        assert len(os.sched_getaffinity(other)) == len(own) - 1


def test_where_no_core_is_left_nothing_changes(
    other: int, own: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.process_scheduling.os.cpu_count", lambda: 1)
    os.sched_setaffinity(0, {0})
    before = os.sched_getaffinity(other)
    assert spare_cores() == set()
    leave_spare_cores_to(other)
    assert os.sched_getaffinity(other) == before


def test_a_process_that_has_ended_has_no_threads_to_move(other: int) -> None:
    threads = threads_of(other)
    assert threads[0] == other
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)
    assert threads_of(other) == []
    keep_on(other, spare_cores())


def test_where_there_is_no_idle_policy_it_has_the_lowest_priority(
    other: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("serve.process_scheduling.os.SCHED_IDLE")
    let_give_way(other)
    assert os.sched_getscheduler(other) == os.SCHED_OTHER
    assert os.getpriority(os.PRIO_PROCESS, other) == LOWEST_PRIORITY
