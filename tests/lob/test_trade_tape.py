"""The tape against a sorted list, which is what it says it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lob.errors import InputError
from lob.instrument import Instrument
from lob.messages import Trade
from lob.trade_tape import TapedTrade, TradeTape

INSTRUMENT = Instrument(symbol="BTCUSDT", tick_size="0.10")


def trade(exchange_ms: int, number: int = 0, *, price: str = "100.1", size: str = "0.5") -> Trade:
    return Trade("BTCUSDT", exchange_ms, price, size, 1, str(number), number)


def numbers(taken: list[TapedTrade]) -> list[int]:
    return [one.sequence for one in taken]


def test_a_trade_goes_to_the_first_book_update_that_is_not_before_it() -> None:
    tape = TradeTape(INSTRUMENT)
    tape.add([trade(10, 1), trade(20, 2), trade(20, 3), trade(30, 4)])
    assert numbers(tape.take(9)) == []
    assert numbers(tape.take(20)) == [1, 2, 3]
    assert numbers(tape.take(20)) == []
    assert len(tape) == 1
    (last,) = tape.take(1_000)
    assert last == TapedTrade(30, 1_001, 0.5, 1, "4", 4)
    assert (tape.trades, tape.late) == (4, 0)


def test_a_trade_whose_update_has_passed_is_counted_and_goes_to_the_next() -> None:
    tape = TradeTape(INSTRUMENT)
    tape.take(100)
    tape.add([trade(100, 1), trade(101, 2)])
    assert tape.late == 1
    assert numbers(tape.take(100)) == [1]
    assert numbers(tape.take(101)) == [2]


def test_beyond_its_room_the_oldest_go_and_are_counted() -> None:
    tape = TradeTape(INSTRUMENT, capacity=3)
    tape.add(trade(number, number) for number in range(10))
    assert (len(tape), tape.dropped, tape.trades) == (3, 7, 10)
    assert numbers(tape.take(100)) == [7, 8, 9]
    with pytest.raises(InputError, match="capacity: 0 came"):
        TradeTape(INSTRUMENT, capacity=0)


@pytest.mark.parametrize("size", ["", "0", "0.000", "-1", "nan", "inf", "1e5", "1_0", "1.2.3", "\u0661"])
def test_a_size_that_is_none_is_counted_and_left_out(size: str) -> None:
    tape = TradeTape(INSTRUMENT)
    tape.add([trade(1, size=size), trade(1, 7)])
    assert (tape.malformed, tape.trades) == (1, 1)
    assert numbers(tape.take(1)) == [7]


@pytest.mark.parametrize("price", ["", "100.15", "0", "-1", "x"])
def test_a_price_off_the_grid_is_counted_and_left_out(price: str) -> None:
    tape = TradeTape(INSTRUMENT)
    tape.add([trade(1, price=price)])
    assert (tape.malformed, len(tape)) == (1, 0)


def test_a_new_connection_begins_anew() -> None:
    tape = TradeTape(INSTRUMENT)
    tape.add([trade(1)])
    tape.take(0)
    tape.take(500)
    tape.add([trade(600)])
    tape.reset()
    assert tape.take(10_000) == []
    tape.reset()
    tape.add([trade(3)])
    assert (tape.late, tape.trades) == (0, 3)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.lists(st.integers(0, 50), max_size=6)),
            st.tuples(st.just("take"), st.integers(0, 60)),
        ),
        max_size=40,
    )
)
def test_it_answers_what_a_sorted_list_answers(actions: list[tuple]) -> None:
    tape = TradeTape(INSTRUMENT)
    waiting: list[tuple[int, int]] = []
    added = late = 0
    book_ms = -1
    for action, argument in actions:
        if action == "add":
            for exchange_ms in argument:
                added += 1
                late += exchange_ms <= book_ms
                tape.add([trade(exchange_ms, added)])
                waiting.append((exchange_ms, added))
        else:
            book_ms = max(book_ms, argument)
            expected = sorted(one for one in waiting if one[0] <= argument)
            waiting = [one for one in waiting if one[0] > argument]
            assert [(one.exchange_ms, one.sequence) for one in tape.take(argument)] == expected
    assert (tape.trades, tape.late, tape.dropped, len(tape)) == (added, late, 0, len(waiting))
