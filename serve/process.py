"""How a process runs its event loop: uvloop's where it is installed, and a stop on SIGINT or SIGTERM."""

import asyncio
import gc
import logging
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

logger = logging.getLogger(__name__)


def run_until_signalled(main: Coroutine[Any, Any, None], stop: Callable[[], None] | None = None) -> None:
    """Run `main` to its end; SIGINT and SIGTERM call `stop`, by default to cancel `main`.

    A `stop` of one's own must bring the end of `main` about.
    """

    async def signalled() -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(main)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop or task.cancel)
        with suppress(asyncio.CancelledError):
            await task

    with asyncio.Runner(loop_factory=event_loop_factory()) as runner:
        runner.run(signalled())


def freeze_start_up() -> None:
    """Move everything made so far out of the garbage collector's sight (`gc.freeze`).

    Automatic collection stays on for what requests and connections leave behind; it no longer walks through
    modules, kernels and the model, which live as long as the process.
    """
    gc.collect()
    gc.freeze()
    logger.info(
        "garbage collector: %d objects of the start frozen, automatic collection on", gc.get_freeze_count()
    )


def event_loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's loop where it is installed, else None for asyncio's own."""
    try:
        import uvloop  # it does not exist on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop
