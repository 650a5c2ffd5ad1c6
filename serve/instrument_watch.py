"""Has an instrument's tick size changed since its book was begun: the exchange is asked again on suspicion.

A process keeps the grid it began with: book, rows and recordings are counted in its ticks. So a change ends
it, and whoever supervises it starts it again on the new grid.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Protocol

from lob.errors import InputError
from lob.instrument import Instrument
from serve.instrument_cache import InstrumentInfo
from serve.reconnect import ReconnectPolicy

logger = logging.getLogger(__name__)

ASK_TIMEOUT_S = 3.0
"""How long the exchange may take to answer; the end of the process waits for it."""

ASKING_AGAIN = ReconnectPolicy(initial_s=1.0, cap_s=60.0)

Ask = Callable[[str], Awaitable[InstrumentInfo]]
"""Asks the exchange for a symbol's instrument; raises InputError where it does not say."""


class InstrumentChangedError(InputError):
    """An instrument has another tick size than the one its book was begun with."""


class WatchedBook(Protocol):
    """What the watch needs to know of a book."""

    @property
    def off_grid_price(self) -> str:
        """The price off the tick grid that the book was lost by; empty once a snapshot held."""


class InstrumentWatch:
    """Asks for an instrument again while its book is lost by a price off its grid.

    One wrong price may be a fault of the line, so that alone changes nothing. The exchange is asked at most
    as often as `policy` says; the row of questions ends when a snapshot holds.
    """

    def __init__(
        self,
        books: Mapping[Instrument, WatchedBook],
        ask: Ask,
        *,
        policy: ReconnectPolicy = ASKING_AGAIN,
        check_interval_s: float = 0.25,
    ) -> None:
        self._books = books
        self._ask = ask
        self._policy = policy
        self._check_interval_s = check_interval_s
        self._random = Random()  # noqa: S311  # jitter, no secret
        self._asked = dict.fromkeys(books, 0)
        self._due_s = dict.fromkeys(books, 0.0)

    async def run(self) -> None:
        """Watch until cancelled; raises InstrumentChangedError where a tick size has changed."""
        now_s = asyncio.get_running_loop().time
        while True:
            for instrument, book in self._books.items():
                if not book.off_grid_price:
                    self._asked[instrument] = 0
                elif now_s() >= self._due_s[instrument]:
                    await self._compare(instrument)
                    self._due_s[instrument] = now_s() + self._policy.delay_s(
                        self._asked[instrument], self._random
                    )
                    self._asked[instrument] += 1
            await asyncio.sleep(self._check_interval_s)

    async def _compare(self, known: Instrument) -> None:
        """Raises InstrumentChangedError where the exchange names another tick size than the one known."""
        try:
            now = (await self._ask(known.symbol)).instrument
        except InputError as error:
            logger.warning("is the tick size of %s still %s? %s", known.symbol, known.tick_size, error)
            return
        if (now.tick_mantissa, now.tick_decimals) != (known.tick_mantissa, known.tick_decimals):
            raise InstrumentChangedError(
                f"the tick size of {known.symbol} is {now.tick_size} now, and was {known.tick_size} at the "
                "start; start again to go on with it"
            )
