"""How another process is scheduled beside the service: when nobody else wants a core, and on other cores.

The first alone is not enough. The scheduler gives even a process of the lowest priority some turns on the
core where it woke up, and such a turn lasts as long as a tick of the system's clock, 4 ms, if whoever else
wants the core never sleeps. Cores are chosen on Linux only.
"""

import ctypes
import os
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import cache
from pathlib import Path

LOWEST_PRIORITY = 19
"""The highest `nice` value."""


def let_give_way(pid: int) -> None:
    """Let process `pid` run when nobody else wants a core (`SCHED_IDLE`), else with the lowest priority.

    Threads that it starts later inherit that; call this before it starts any. Raises OSError where the
    process has ended or the system does not allow it.
    """
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
    elif hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, pid, LOWEST_PRIORITY)


def spare_cores() -> frozenset[int]:
    """The cores that this process does not need; empty where there are none or the system does not tell.

    Where this process is kept on some of the machine's cores, these are the others; else all but the one that
    the calling thread, the event loop's, runs on.
    """
    if not hasattr(os, "sched_getaffinity"):
        return frozenset()
    own = os.sched_getaffinity(os.getpid())
    others = set(range(os.cpu_count() or 1)) - own
    return frozenset(others or own - {_own_core()})


def threads_of(pid: int) -> list[int]:
    """The threads of process `pid`, the main one first; none where it has ended or there is no /proc."""
    try:
        return sorted(int(thread.name) for thread in Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def keep_on(thread: int, cores: Collection[int]) -> None:
    """Let `thread`, and those that it starts later, run on `cores` alone; where that cannot be, nothing."""
    with suppress(OSError, ValueError):  # it has ended, it is not allowed, there are no cores
        os.sched_setaffinity(thread, cores)


def _own_core() -> int:
    return _sched_getcpu()()


@cache
def _sched_getcpu() -> Callable[[], int]:
    """The C library's `sched_getcpu`, which Python does not offer."""
    function: Callable[[], int] = ctypes.PyDLL(None).sched_getcpu
    return function
