"""Work on many symbols that takes turns with everything else on the event loop.

A frame that arrives waits for the end of the turn in which it does. So whatever walks all symbols does a few
of them a turn, and while frames wait to be handled they go first.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Generic, TypeVar

import msgspec

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

MOST_TURNS = 64
"""So many turns in a row are left to waiting frames: where they never end, the work gets on all the same."""

STRUCTS_A_TURN = 32
"""Elements encoded between two turns, a few microseconds each."""


def _none_waiting() -> int:
    return 0


class Turns:
    """Gives way to other tasks; `waiting_frames` tells how many frames have arrived and are not handled."""

    def __init__(self, waiting_frames: Callable[[], int] = _none_waiting) -> None:
        self._waiting_frames = waiting_frames

    async def give_way(self) -> None:
        """Let every other task have a turn, and as long as frames wait, further ones."""
        await asyncio.sleep(0)
        left = MOST_TURNS
        while left and self._waiting_frames():
            left -= 1
            await asyncio.sleep(0)

    async def map(
        self, function: Callable[[Item], Outcome], items: Iterable[Item], a_turn: int
    ) -> list[Outcome]:
        """What `function` makes of each of `items` in their order, `a_turn` of them between two turns."""
        outcomes = []
        for number, item in enumerate(items, 1):
            outcomes.append(function(item))
            if number % a_turn == 0:
                await self.give_way()
        return outcomes

    async def encode(self, whole: msgspec.Struct, field: str) -> msgspec.Raw:
        """`whole` as JSON, the elements of its list `field` encoded a few a turn."""
        elements = await self.map(_encoded, getattr(whole, field), STRUCTS_A_TURN)
        return msgspec.Raw(msgspec.json.encode({**msgspec.structs.asdict(whole), field: elements}))


def _encoded(element: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(element))


class SharedWork(Generic[Outcome]):
    """Work of many turns that is done once for all who ask while it is under way.

    So however many ask at once, no more than one such work is on the loop. Who asks while it is under way is
    answered with values of which the first were read before.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, Outcome]]) -> None:
        self._work = work
        self._under_way: asyncio.Task[Outcome] | None = None

    async def outcome(self) -> Outcome:
        """What the work comes to; raises what it raises. Who is cancelled leaves it to the others."""
        if self._under_way is None:
            self._under_way = asyncio.create_task(self._work())
            self._under_way.add_done_callback(self._on_end)
        return await asyncio.shield(self._under_way)

    def _on_end(self, task: asyncio.Task[Outcome]) -> None:
        self._under_way = None
