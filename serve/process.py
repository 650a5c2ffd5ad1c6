"""How a process runs its event loop: uvloop's where it is installed, and a stop on SIGINT or SIGTERM."""

import asyncio
import gc
import logging
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


def run_until_signalled(
    main: Coroutine[Any, Any, Result], stop: Callable[[], None] | None = None
) -> Result | None:
    """Run `main` to its end and answer its result; SIGINT and SIGTERM call `stop`.

    A `stop` of one's own must bring the end of `main` about. By default `main` is cancelled, and the answer
    is None.
    """

    async def signalled() -> Result | None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(main)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop or task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            return None

    with asyncio.Runner(loop_factory=event_loop_factory()) as runner:
        return runner.run(signalled())


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
