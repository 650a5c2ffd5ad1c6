"""How another process is scheduled beside the service: when nobody else wants a core, and on other cores.

The first alone is not enough. The scheduler gives even a process of the lowest priority some turns on the
core where it woke up, and such a turn lasts as long as a tick of the system's clock, 4 ms, if whoever else
wants the core never sleeps. Cores are chosen on Linux only.
"""

import os
from contextlib import suppress
from pathlib import Path

LOWEST_PRIORITY = 19
"""The highest `nice` value."""

_PROCESSOR = 36
"""The core a thread ran on last, counted from the field behind its name (proc_pid_stat(5), number 39)."""


def let_give_way(pid: int) -> None:
    """Let process `pid` run when nobody else wants a core (`SCHED_IDLE`), else with the lowest priority.

    Threads that it starts later inherit that; call this before it starts any. Raises OSError where the
    process has ended or the system does not allow it.
    """
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
    elif hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, pid, LOWEST_PRIORITY)


def leave_spare_cores_to(pid: int) -> None:
    """Let all threads of process `pid` run on the cores that this process does not need.

    Where this process is kept on some of the machine's cores, these are the others; else all but the one on
    which its main thread, the event loop's, ran last. Where that leaves none, where the process has ended,
    and where the system does not allow it nothing is changed.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    own = os.sched_getaffinity(os.getpid())
    others = set(range(os.cpu_count() or 1)) - own
    with suppress(OSError, ValueError, IndexError):  # the last two where /proc is not Linux' own
        spare = others or own - {_last_core()}
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), spare)


def _last_core() -> int:
    fields = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()
    return int(fields[_PROCESSOR])
