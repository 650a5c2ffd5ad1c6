"""One core for a measurement, where the system lets a process choose."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from lob.errors import InputError


@contextmanager
def pinned_to(core: int | None) -> Iterator[None]:
    """Keep this process on `core`, and give it back its cores afterwards; None leaves it where it is.

    Threads that exist already stay where they were. Raises InputError where the system has no such call or
    this process may not use that core.
    """
    if core is None:
        yield
        return
    if not hasattr(os, "sched_setaffinity"):
        raise InputError("--cpu: this system does not let a process choose its core; Linux does")
    before = os.sched_getaffinity(0)
    if core not in before:
        allowed = ", ".join(map(str, sorted(before)))
        raise InputError(f"--cpu: {core} came; this process may use {allowed}")
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
