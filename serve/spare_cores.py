"""Another process that gives way to the service, and on Linux keeps off the core of its event loop.

The scheduler gives even a process of the lowest priority some turns on the core where it woke up, and such a
turn lasts as long as a tick of the system's clock, 4 ms, if whoever else wants the core never sleeps.
"""

import os
from contextlib import suppress
from pathlib import Path

_PROCESSOR = 36
"""The core a thread ran on last, counted from the field behind its name (proc_pid_stat(5), number 39)."""


LOWEST_PRIORITY = 19


def let_give_way(pid: int) -> None:
    """Let process `pid`, just started, run when nobody else wants a core; the threads it starts do the same.

    Where the system has no such policy it gets the lowest priority.
    """
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
    elif hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, pid, LOWEST_PRIORITY)


def leave_spare_cores_to(pid: int) -> None:
    """Let process `pid`, all its threads, run on the cores that this process does not need.

    Where this process is kept on some of the machine's cores, these are the others; else all but the one on
    which its main thread, the event loop's, ran last. Where that leaves none nothing is changed.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    own = os.sched_getaffinity(os.getpid())
    others = set(range(os.cpu_count() or 1)) - own
    with suppress(OSError, ValueError, IndexError):  # none is left, or none that may be used; or no /proc
        spare = others or own - {_last_core()}
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), spare)


def _last_core() -> int:
    fields = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()
    return int(fields[_PROCESSOR])
