"""Counts the turns of the running event loop: so a test can tell what happened in one and what between."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class TurnCount:
    """`now` is the number of the turn; `note` says that something was done in it."""

    def __init__(self) -> None:
        self.now = 0
        self.done: Counter[int] = Counter()

    def note(self, count: int = 1) -> None:
        self.done[self.now] += count

    @property
    def most(self) -> int:
        """The most that was done in one turn."""
        return max(self.done.values())

    async def run(self) -> None:
        while True:
            self.now += 1
            await asyncio.sleep(0)


@asynccontextmanager
async def counting_turns() -> AsyncIterator[TurnCount]:
    """A count that goes on until the block ends."""
    count = TurnCount()
    task = asyncio.create_task(count.run())
    await asyncio.sleep(0)
    try:
        yield count
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
