"""Waiting for what another task brings about."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    """Wait until `condition` holds; fails where it does not.

    The bound is for what never comes, and far above what a loaded machine takes: it is no claim about speed.
    """
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)
