"""The jitted reading of decimal text against `Decimal` and `float`."""

import json
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lob.decimal_text import (
    MAXIMUM_DIGITS,
    MAXIMUM_SIZE,
    Decimals,
    Levels,
    nearest_float64,
    read_levels,
    read_size,
    read_ticks,
    scan_decimal,
)
from lob.instrument import MAXIMUM_SCALED_PRICE

DIGITS = st.text("0123456789", min_size=1, max_size=24)
NUMBERS = st.one_of(DIGITS, st.builds("{}.{}".format, DIGITS, DIGITS))
CAPACITY = 8
NO_NUMBERS = [
    "",
    "-1",
    "+1",
    " 1",
    "1 ",
    "1e5",
    "1E5",
    ".5",
    "5.",
    ".",
    "1.2.3",
    "NaN",
    "Infinity",
    "0x10",
    "1,5",
    "\\u0031",
    "١",
    "9" * (MAXIMUM_DIGITS + 1),
    "0." + "1" * MAXIMUM_DIGITS,
]


def read(
    text: str, sign: int = 1, mantissa: int = 1, decimals: int = 2
) -> tuple[int, list[int], list[float]]:
    """(count or code, keys, sizes) of levels as JSON text."""
    keys, sizes = np.zeros(CAPACITY, np.int64), np.zeros(CAPACITY)
    count = read_levels(text.encode(), keys, sizes, sign, mantissa, decimals)
    return count, keys[: max(count, 0)].tolist(), sizes[: max(count, 0)].tolist()


@given(NUMBERS)
@example("9007199254740993")  # 2^53 + 1: half way between two floats
@example("9007199254740993.0000000000000000000001")
@example("0.1" + "0" * 40)
@example("0." + "0" * 46 + "1")
@example("179769313486231580793728971405303415079934132710")
@example("0.000000000000000000000000000000000000000000000000"[: MAXIMUM_DIGITS + 1])
def test_size_is_the_float_of_its_text(text: str) -> None:
    expected = float(text)
    size, end = read_size(text.encode(), 0)
    assert size == (expected if expected <= MAXIMUM_SIZE else -1.0)
    assert end == len(text)


@given(NUMBERS)
@example("9007199254740993")
@example("9007199254740992.5")
@example("0.1")
@example("0")
@example("0.00")
def test_slow_path_is_the_float_of_its_text(text: str) -> None:
    assert nearest_float64(text.encode(), 0, len(text)) == float(text)


@given(NUMBERS)
def test_scan_holds_the_number_exactly_or_says_not(text: str) -> None:
    kind, mantissa, decimals, end = scan_decimal(text.encode(), 0)
    assert end == len(text)
    number = Decimal(text)
    significant = number.normalize().as_tuple()
    if kind == Decimals.EXACT:
        assert mantissa < 2**53
        assert Decimal(mantissa).scaleb(-decimals) == number
    else:
        assert kind == Decimals.LONG
        assert (
            len(significant.digits) + max(0, int(significant.exponent)) > 15
            or -int(significant.exponent) > 22
        )


@given(NUMBERS, st.sampled_from([(1, 0), (1, 1), (1, 2), (1, 8), (5, 1), (25, 2), (10, 0)]))
@example("9007199254740991", (1, 0))
@example("9007199254740992", (1, 0))
@example("61837.63000000", (1, 2))
@example("61837.63000001", (1, 2))
def test_ticks_are_exact_or_refused(text: str, tick: tuple[int, int]) -> None:
    mantissa, decimals = tick
    scaled = Decimal(text) * 10**decimals
    on_grid = 0 < scaled < MAXIMUM_SCALED_PRICE and scaled % mantissa == 0
    ticks, end = read_ticks(text.encode(), 0, mantissa, decimals)
    assert ticks == (scaled / mantissa if on_grid else -1)
    assert end == len(text)


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_no_number_is_refused(text: str) -> None:
    assert read(f'[["{text}","1"]]')[0] == Levels.MALFORMED
    assert read(f'[["1","{text}"]]')[0] == Levels.MALFORMED
    assert read('[["1","1"]]')[0] == 1


@given(
    st.lists(st.tuples(st.integers(1, 10**9), st.integers(0, 10**9)), max_size=CAPACITY),
    st.sampled_from([None, 1, "\t"]),
    st.sampled_from([1, -1]),
)
def test_levels_are_read_in_order(levels: list[tuple[int, int]], indent: int | str | None, sign: int) -> None:
    printed = [(f"{ticks / 100:.2f}", f"{size / 1000:.3f}") for ticks, size in levels]
    count, keys, sizes = read(json.dumps(printed, indent=indent), sign)
    assert count == len(levels)
    assert keys == [sign * ticks for ticks, _ in levels]
    assert sizes == [float(size) for _, size in printed]


def test_more_levels_than_there_is_room_for() -> None:
    assert read(json.dumps([["1", "1"]] * CAPACITY))[0] == CAPACITY
    assert read(json.dumps([["1", "1"]] * (CAPACITY + 1)))[0] == Levels.TOO_MANY


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "{}",
        "1",
        '""',
        "",
        " ",
        "[",
        "[]]",
        "[],",
        "[[]]",
        "[null]",
        '["1","1"]',
        '[["1"]]',
        '[["1","1","1"]]',
        '[["1","1"],]',
        '[["1","1"]["1","1"]]',
        '[["1","1"],["1"]]',
        "[[1,1]]",
        '[["1",1]]',
        '[[["1","1"]]]',
        '[["1","1"]',
        '[["1","1"',
        '[["1","1',
        '[["1",',
        '[["1"',
        '[["',
        '[["1","1"]] x',
        '[{"price":"1","size":"1"}]',
        '[["1":"1"]]',
        '[["0","1"]]',
        '[["0.001","1"]]',
        '[["1","1000000000000000001000"]]',
    ],
)
def test_what_is_no_list_of_levels_is_refused(text: str) -> None:
    assert read(text)[0] == Levels.MALFORMED


@given(st.binary(max_size=60))
def test_any_bytes_have_an_answer(text: bytes) -> None:
    keys, sizes = np.zeros(CAPACITY, np.int64), np.zeros(CAPACITY)
    count = read_levels(text, keys, sizes, 1, 1, 2)
    assert Levels.TOO_MANY <= count <= CAPACITY


@given(st.data())
def test_any_damage_has_an_answer(data: st.DataObject) -> None:
    text = bytearray(b'[["61837.63","0.705782"],["61837.62","1"],["61837.6","12.5"]]')
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text) - 1))
        if data.draw(st.booleans()):
            text[place] = data.draw(st.sampled_from(b'0123456789.,"[] -e'))
        else:
            del text[place]
    keys, sizes = np.zeros(CAPACITY, np.int64), np.zeros(CAPACITY)
    count = read_levels(bytes(text), keys, sizes, 1, 1, 2)
    try:
        levels = json.loads(text)
        expected = [(Decimal(price) * 100, float(size)) for price, size in levels]
    except (ValueError, ArithmeticError, TypeError):
        assert count == Levels.MALFORMED
        return
    if count >= 0:
        assert expected == list(zip(keys[:count].tolist(), sizes[:count].tolist(), strict=True))
    else:  # well formed, yet nothing an exchange prints: an exponent, a sign, off the grid, a bare number
        strings = all(isinstance(part, str) for level in levels for part in level)
        plain = strings and all(
            part.replace(".", "", 1).isdigit() and not part.startswith(".") and not part.endswith(".")
            for level in levels
            for part in level
        )
        assert not plain or any(price % 1 != 0 or price == 0 for price, _ in expected)
