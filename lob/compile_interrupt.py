"""Ctrl-C while a kernel is compiled: it waits until LLVM has returned.

LLVM calls back into Python, and an exception in such a call is printed and lost: a KeyboardInterrupt there
leaves half a kernel, and ends in a traceback about a missing object, or not at all.
"""

import signal
import threading
from functools import lru_cache
from types import FrameType

from numba.core.event import Event, Listener, register

COMPILING = "numba:compiler_lock"
"""Numba's event around each pass of a compilation, and around loading what is compiled."""


class _InterruptHold(Listener):  # type: ignore[misc]  # numba has no types
    """Keeps a SIGINT that would raise KeyboardInterrupt, and raises it when the innermost pass has ended.

    A handler of somebody's own is left alone: it raises nothing that could be lost.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._is_holding = False
        self._came = False

    def on_start(self, event: Event) -> None:
        """Take the signal's place, if it is Python's own."""
        if not _is_main():
            return
        self._depth += 1
        if not self._is_holding and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._came, self._is_holding = False, True
            signal.signal(signal.SIGINT, self._keep)

    def on_end(self, event: Event) -> None:
        """Give the place back after the outermost pass, or at once where a signal came: KeyboardInterrupt."""
        if not _is_main():
            return
        self._depth -= 1
        if self._is_holding and (self._came or self._depth == 0):
            self._is_holding = False
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if self._came:
                raise KeyboardInterrupt

    def _keep(self, number: int, frame: FrameType | None) -> None:
        self._came = True


def _is_main() -> bool:
    """Python runs signal handlers in the main thread alone."""
    return threading.current_thread() is threading.main_thread()


@lru_cache(maxsize=1)
def hold_interrupts() -> None:
    """From now on Ctrl-C waits for the compilation's pass that it meets; once a process."""
    register(COMPILING, _InterruptHold())
