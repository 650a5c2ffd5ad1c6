"""A feed at work for the length of a block."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from lob.errors import InputError
from serve.feed import Feed


@asynccontextmanager
async def running(feed: Feed) -> AsyncIterator[None]:
    """Run `feed` until the block ends; what ended it before is raised, but for its giving up."""
    task = asyncio.create_task(feed.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, InputError):
            await task
