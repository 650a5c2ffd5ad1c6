"""Keeping another process off the core of the service's event loop, on Linux; elsewhere nothing happens.

The scheduler gives even a process of the lowest priority some turns on the core where it woke up, and such a
turn lasts as long as a tick of the system's clock, 4 ms, if whoever else wants the core never sleeps.
"""

import os
from contextlib import suppress
from pathlib import Path

_PROCESSOR = 36
"""The core a thread ran on last, counted from the field behind its name (proc_pid_stat(5), number 39)."""


def leave_spare_cores_to(pid: int) -> None:
    """Let the main thread of process `pid` run on the cores that this process does not need.

    Where this process is kept on some of the machine's cores, these are the others; else all but the one on
    which its main thread, the event loop's, ran last. Where that leaves none nothing is changed.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    own = os.sched_getaffinity(os.getpid())
    others = set(range(os.cpu_count() or 1)) - own
    with suppress(OSError, ValueError, IndexError):  # none is left, or none that may be used; or no /proc
        os.sched_setaffinity(pid, others or own - {_last_core()})


def _last_core() -> int:
    fields = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()
    return int(fields[_PROCESSOR])
