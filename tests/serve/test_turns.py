"""Work that gives way: what is done in one turn of the event loop, what between, and once for all who ask."""

import asyncio

import msgspec
import pytest

from serve.model_views import SwitcherView
from serve.responses import ModelList, SymbolStatus
from serve.turns import MOST_TURNS, STRUCTS_A_TURN, SharedWork, Turns
from tests.serve.turn_count import counting_turns

pytestmark = pytest.mark.anyio


async def test_so_many_items_are_taken_in_a_turn_and_others_have_theirs_in_between() -> None:
    async with counting_turns() as count:

        def double(item: int) -> int:
            count.note()
            return 2 * item

        assert await Turns().map(double, range(100), 7) == [2 * item for item in range(100)]
        assert count.most == 7
        assert len(count.done) == 15


async def test_frames_that_wait_go_first_and_do_not_hold_the_work_up_for_ever() -> None:
    waiting = 5

    async def take_frames() -> None:
        nonlocal waiting
        while waiting:
            waiting -= 1
            await asyncio.sleep(0)

    taking = asyncio.create_task(take_frames())
    await Turns(lambda: waiting).give_way()
    assert waiting == 0
    await taking
    async with counting_turns() as count:
        before = count.now
        await Turns(lambda: 1).give_way()  # there is no end of them
        assert count.now == before + 1 + MOST_TURNS


async def test_a_struct_encoded_in_turns_is_the_same_json() -> None:
    statuses = [SymbolStatus(f"COIN{number}USDT", "live", 'a "reason"') for number in range(100)]
    view = SwitcherView(operation="rollback", failures=2, symbols=statuses, known=["a", "b"])  # type: ignore[arg-type]
    async with counting_turns() as count:
        before = count.now
        assert msgspec.json.encode(await Turns().encode(view, "symbols")) == msgspec.json.encode(view)
        assert count.now - before >= 100 // STRUCTS_A_TURN
    nothing = await Turns().encode(ModelList([]), "models")
    assert msgspec.json.encode(nothing) == b'{"models":[]}'


async def test_work_under_way_is_shared_and_who_asks_later_begins_it_anew() -> None:
    begun, may_end = 0, asyncio.Event()

    async def work() -> int:
        nonlocal begun
        begun += 1
        mine = begun
        await may_end.wait()
        return mine

    shared = SharedWork(work)
    asking = [asyncio.create_task(shared.outcome()) for _ in range(5)]
    await asyncio.sleep(0)
    asking[0].cancel()  # as where a client has left
    asking += [asyncio.create_task(shared.outcome())]
    await asyncio.sleep(0)
    may_end.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == [1] * 5
    assert await shared.outcome() == begun == 2


async def test_what_the_work_raises_reaches_all_who_share_it_and_nobody_after_them() -> None:
    outcomes = [ValueError("no"), None]

    async def work() -> str:
        await asyncio.sleep(0)
        error = outcomes.pop(0)
        if error is not None:
            raise error
        return "done"

    shared = SharedWork(work)
    found = await asyncio.gather(*(shared.outcome() for _ in range(3)), return_exceptions=True)
    assert [str(error) for error in found] == ["no"] * 3
    assert await shared.outcome() == "done"
