"""The processes of a run over sockets: started fresh, told what to do through a pipe, always ended.

Each is started by spawning (`multiprocessing`), so it holds nothing of this one, and ends with it: the end
of its pipe is its order to stop. Clock readings of different processes are compared, which
`time.perf_counter_ns` allows where it reads a clock of the whole system, as on Linux, macOS and Windows.
"""

import multiprocessing
import os
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Final

from lob.errors import InputError, MambalobError

STOP_S: Final = 10.0

_SPAWN = multiprocessing.get_context("spawn")


class ProcessEndedError(MambalobError):
    """A process of the run ended, or said nothing for too long."""


class RemoteProcess:
    """A function in a process of its own, and this end of the pipe to it. A context manager that ends it.

    `work(pipe, *arguments)` runs there, on `cores` where they are given; all it sends with `pipe.send` comes
    here through `receive`.
    """

    def __init__(
        self, name: str, work: Callable[..., None], *arguments: Any, cores: frozenset[int] | None
    ) -> None:
        self._name = name
        self._pipe, far_end = _SPAWN.Pipe()
        self._process = _SPAWN.Process(
            target=_run, args=(work, far_end, cores, arguments), name=f"mambalob-bench-{name}", daemon=True
        )
        self._process.start()
        far_end.close()

    def send(self, message: object) -> None:
        """Tell the process something; raises ProcessEndedError where it is gone."""
        try:
            self._pipe.send(message)
        except OSError as error:
            raise self._ended() from error

    def receive(self, timeout_s: float) -> Any:
        """The next thing that the process says; raises ProcessEndedError where none comes in time."""
        try:
            if self._pipe.poll(timeout_s):
                return self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._ended() from error
        raise ProcessEndedError(f"the {self._name} said nothing for {timeout_s:g} s")

    def __enter__(self) -> "RemoteProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(STOP_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()

    def _ended(self) -> ProcessEndedError:
        self._process.join(STOP_S)
        return ProcessEndedError(f"the {self._name} ended with code {self._process.exitcode}")


def make_pipe() -> tuple[Connection, Connection]:
    """A pipe between two processes that are to be started; (reading end, writing end)."""
    return _SPAWN.Pipe(duplex=False)


def shared_cores(core: int | None) -> tuple[frozenset[int] | None, frozenset[int] | None]:
    """Which cores the service and the other processes may use where the service is to have `core` alone.

    (None, None) where `core` is None. Raises InputError where this process may not use `core`, or no other.
    """
    if core is None:
        return None, None
    if not hasattr(os, "sched_getaffinity"):
        raise InputError("--cpu: this system does not let a process choose its core; Linux does")
    allowed = os.sched_getaffinity(0)
    if core not in allowed:
        raise InputError(f"--cpu: {core} came; this process may use {', '.join(map(str, sorted(allowed)))}")
    others = frozenset(allowed - {core})
    if not others:
        raise InputError(f"--cpu: {core} came, the only core there is; the other processes need one too")
    return frozenset({core}), others


def _run(
    work: Callable[..., None], pipe: Connection, cores: frozenset[int] | None, arguments: tuple[Any, ...]
) -> None:
    if cores is not None:
        os.sched_setaffinity(0, cores)
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt):  # the run is over
        work(pipe, *arguments)
