"""Printed decimal numbers to integer ticks and float64 sizes, exactly, inside jitted code.

`float` and `Decimal` are the slow twins: a size is the float64 nearest to its text, a price is a whole number
of ticks or is refused. What counts as a number is what exchanges print: digits, and a point with digits after
it; no sign, exponent, space or name.
"""

import math
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from lob.instrument import MAXIMUM_SCALED_PRICE
from lob.kernel import allocating_kernel, kernel

MAXIMUM_DIGITS = 48
"""Most digits a number may be printed with; longer ones are refused."""

MAXIMUM_SIZE = 1e18
"""Sizes above this are refused, so that sums of them stay finite in float32."""

EXACT_MANTISSA = 2**53
"""Every integer up to here is a float64."""

_EXACT_POWER = 22  # 10^22 is the last power of ten that is a float64
FLOAT_POWERS = tuple(10.0**power for power in range(_EXACT_POWER + 1))
INTEGER_POWERS = tuple(10**power for power in range(19))
"""Powers of ten: those that are float64, and those that are int64."""

_SIGNIFICANT_BITS = 53
_LIMB_BITS = 32
_LIMB_MASK = 0xFFFFFFFF
_LIMBS = 16

_QUOTE, _POINT, _ZERO = ord('"'), ord("."), ord("0")
_OPEN, _CLOSE, _COMMA = ord("["), ord("]"), ord(",")
_SPACE, _TAB, _LINE_FEED, _RETURN = ord(" "), ord("\t"), ord("\n"), ord("\r")


class Decimals(IntEnum):
    """How a scanned number is held."""

    EXACT = 0  # mantissa / 10^decimals, both exact in float64
    LONG = 1  # well formed, but only its text holds it
    INVALID = 2


class Levels(IntEnum):
    """Why levels were refused; as counts these are below zero."""

    MALFORMED = -1
    TOO_MANY = -2


@kernel
def scan_decimal(text: bytes, start: int) -> tuple[int, int, int, int]:
    """Read the number that starts at `start`; answers (`Decimals`, mantissa, decimals, end).

    `end` is the index of the first byte that does not belong to it. Zeros that pad the fraction do not count.
    """
    length = len(text)
    position = start
    mantissa = 0
    kind = Decimals.EXACT.value
    while position < length:
        digit = text[position] - _ZERO
        if digit < 0 or digit > 9:
            break
        if mantissa < EXACT_MANTISSA:
            mantissa = mantissa * 10 + digit
        position += 1
    digits = position - start
    if digits == 0:
        return Decimals.INVALID.value, 0, 0, position
    decimals = 0
    if position < length and text[position] == _POINT:
        position += 1
        fraction = position
        while position < length:
            digit = text[position] - _ZERO
            if digit < 0 or digit > 9:
                break
            position += 1
            if digit != 0 and mantissa < EXACT_MANTISSA:
                places = position - fraction - decimals
                if mantissa == 0:
                    mantissa = digit
                elif places <= 9 and mantissa <= EXACT_MANTISSA // INTEGER_POWERS[places]:
                    mantissa = mantissa * INTEGER_POWERS[places] + digit
                else:
                    mantissa = EXACT_MANTISSA
                decimals += places
        if position == fraction:
            return Decimals.INVALID.value, 0, 0, position
        digits += position - fraction
    if digits > MAXIMUM_DIGITS:
        return Decimals.INVALID.value, 0, 0, position
    if mantissa >= EXACT_MANTISSA or decimals > _EXACT_POWER:
        kind = Decimals.LONG.value
    return kind, mantissa, decimals, position


@kernel
def read_ticks(text: bytes, start: int, tick_mantissa: int, tick_decimals: int) -> tuple[int, int]:
    """The price that starts at `start`, as (ticks, end); ticks is -1 where it is none on the grid."""
    kind, mantissa, decimals, end = scan_decimal(text, start)
    if kind != Decimals.EXACT.value or mantissa == 0 or decimals > tick_decimals:
        return -1, end
    power = INTEGER_POWERS[tick_decimals - decimals]
    if mantissa > (MAXIMUM_SCALED_PRICE - 1) // power:
        return -1, end
    scaled = mantissa * power
    if tick_mantissa == 1:
        return scaled, end
    if scaled % tick_mantissa != 0:
        return -1, end
    return scaled // tick_mantissa, end


@kernel
def read_size(text: bytes, start: int) -> tuple[float, int]:
    """The size that starts at `start`, as (size, end); -1 where it is none or beyond `MAXIMUM_SIZE`.

    A mantissa below 2^53 over a power of ten up to 10^22 is one correctly rounded division (Clinger 1990);
    all others go through `nearest_float64`.
    """
    kind, mantissa, decimals, end = scan_decimal(text, start)
    if kind == Decimals.INVALID.value:
        return -1.0, end
    size = (
        mantissa / FLOAT_POWERS[decimals]
        if kind == Decimals.EXACT.value
        else nearest_float64(text, start, end)
    )
    return (size if size <= MAXIMUM_SIZE else -1.0), end


@kernel
def read_levels(
    text: bytes,
    keys: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.float64],
    sign: int,
    tick_mantissa: int,
    tick_decimals: int,
) -> int:
    """Read JSON `[["price","size"],...]` into `keys` (sign * ticks) and `sizes`, both (capacity,), in order.

    Answers the number of levels, or a `Levels` code below zero where the text is anything else.
    """
    position = _expect(text, 0, _OPEN)
    if position < 0:
        return Levels.MALFORMED.value
    end = _expect(text, position, _CLOSE)
    count = 0
    while end < 0:
        position = _expect(text, _expect(text, position, _OPEN), _QUOTE)
        if position < 0:
            return Levels.MALFORMED.value
        ticks, position = read_ticks(text, position, tick_mantissa, tick_decimals)
        if ticks < 0 or position >= len(text) or text[position] != _QUOTE:
            return Levels.MALFORMED.value
        position = _expect(text, _expect(text, position + 1, _COMMA), _QUOTE)
        if position < 0:
            return Levels.MALFORMED.value
        size, position = read_size(text, position)
        if size < 0.0 or position >= len(text) or text[position] != _QUOTE:
            return Levels.MALFORMED.value
        position = _expect(text, position + 1, _CLOSE)
        if count == len(keys):
            return Levels.TOO_MANY.value
        keys[count] = sign * ticks
        sizes[count] = size
        count += 1
        end = _expect(text, position, _CLOSE)
        if end < 0:
            position = _expect(text, position, _COMMA)
            if position < 0:
                return Levels.MALFORMED.value
    return count if _skip_space(text, end) == len(text) else Levels.MALFORMED.value


@kernel
def _skip_space(text: bytes, position: int) -> int:
    """The first index from `position` on that holds no JSON white space."""
    while position < len(text) and text[position] <= _SPACE:
        byte = text[position]
        if byte != _SPACE and byte != _TAB and byte != _LINE_FEED and byte != _RETURN:
            break
        position += 1
    return position


@kernel
def _expect(text: bytes, position: int, byte: int) -> int:
    """The index after `byte`, the next but for white space; -1 where another is next, or `position` is -1."""
    if position < 0:
        return -1
    position = _skip_space(text, position)
    if position < len(text) and text[position] == byte:
        return position + 1
    return -1


@allocating_kernel
def nearest_float64(text: bytes, start: int, end: int) -> float:
    """The float64 nearest to the digits of `text[start:end]`, ties to even, whatever their number.

    `text[start:end]` is a well-formed number of at most `MAXIMUM_DIGITS` digits. Long division of whole
    numbers in limbs of 32 bits: slow, exact, and needed only for numbers no exchange prints.
    """
    numerator = np.zeros(_LIMBS, np.int64)
    denominator = np.zeros(_LIMBS, np.int64)
    denominator[0] = 1
    in_fraction = False
    for position in range(start, end):
        if text[position] == _POINT:
            in_fraction = True
            continue
        _multiply_add(numerator, 10, text[position] - _ZERO)
        if in_fraction:
            _multiply_add(denominator, 10, 0)
    numerator_bits = _bit_length(numerator)
    if numerator_bits == 0:
        return 0.0
    # Scaled so that the quotient has two bits more than float64 keeps, or one.
    shift = _SIGNIFICANT_BITS + 2 - (numerator_bits - _bit_length(denominator))
    for _ in range(shift):
        _multiply_add(numerator, 2, 0)
    for _ in range(-shift):
        _multiply_add(denominator, 2, 0)
    quotient = 0
    remainder = np.zeros(_LIMBS, np.int64)
    for bit in range(_bit_length(numerator) - 1, -1, -1):
        _multiply_add(remainder, 2, (numerator[bit // _LIMB_BITS] >> (bit % _LIMB_BITS)) & 1)
        quotient *= 2
        if _subtract_if_not_less(remainder, denominator):
            quotient += 1
    spare = 0
    while quotient >> spare >= EXACT_MANTISSA:
        spare += 1
    half = 1 << (spare - 1)
    rest = quotient & ((1 << spare) - 1)
    rounded = quotient >> spare
    if rest > half or (rest == half and (_bit_length(remainder) > 0 or rounded % 2 == 1)):
        rounded += 1
    return math.ldexp(float(rounded), spare - shift)


@kernel
def _multiply_add(limbs: npt.NDArray[np.int64], factor: int, addend: int) -> None:
    """limbs = limbs * factor + addend."""
    carry = addend
    for index in range(len(limbs)):
        carry += limbs[index] * factor
        limbs[index] = carry & _LIMB_MASK
        carry >>= _LIMB_BITS


@kernel
def _bit_length(limbs: npt.NDArray[np.int64]) -> int:
    """Bits of the whole number in `limbs`, without leading zeros."""
    for index in range(len(limbs) - 1, -1, -1):
        if limbs[index] != 0:
            bits = 0
            while limbs[index] >> bits != 0:
                bits += 1
            return index * _LIMB_BITS + bits
    return 0


@kernel
def _subtract_if_not_less(limbs: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> bool:
    """limbs -= other where that stays 0 or more; answers whether it did."""
    for index in range(len(limbs) - 1, -1, -1):
        if limbs[index] > other[index]:
            break
        if limbs[index] < other[index]:
            return False
    borrow = 0
    for index in range(len(limbs)):
        difference = limbs[index] - other[index] - borrow
        borrow = 1 if difference < 0 else 0
        limbs[index] = difference & _LIMB_MASK
    return True
