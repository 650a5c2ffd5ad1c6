"""The delta of one Bybit book, from a frame's bytes to levels and numbers in one pass over them.

Strict: it takes only what it understands byte by byte and refuses everything else, having changed nothing but
the rows of a book that hold a message's levels. What is refused goes the ordinary way (`lob.bybit`,
`lob.book.update_book`), which stays the only authority on what an odd frame means. What is taken, exactly:

- one JSON object without white space, whose keys are `topic`, `type`, `ts`, `data` and perhaps `cts`, and in
  `data` `s`, `b`, `a`, `u` and perhaps `seq`: in any order, none twice, no other key;
- `topic` the one followed, `type` "delta", `s` its symbol, `u` not 1 (a restart is a snapshot);
- integers of 1 to 18 digits without a leading zero, signs, points or exponents;
- levels `["price","size"]` of plain decimals: digits, perhaps a point and digits, at most 18 in all, the
  mantissa below 2^53, the price on the grid and above 0.
"""

import numpy as np

from lob.book import NEW_ASKS, NEW_BIDS, TICK_DECIMALS, TICK_MANTISSA, Floats, Integers
from lob.decimal_text import EXACT_MANTISSA, FLOAT_POWERS, INTEGER_POWERS
from lob.instrument import MAXIMUM_SCALED_PRICE
from lob.kernel import kernel

LAST_UPDATE, LAST_SEQUENCE, LAST_GATEWAY, LAST_EXCHANGE, EVERY_MESSAGE, SYMBOL_AT, TOPIC_END, TOPIC_START = (
    range(8)
)
"""Places in a `stream`: update number, sequence and two times of the last message applied; whether every
message is sampled; where the symbol begins and the topic ends; the topic's bytes from TOPIC_START on."""

LONGEST_TOPIC = 120
"""Bytes a topic may have; a longer one is not followed."""

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
_MOST_DIGITS = 18
_QUOTE, _POINT, _ZERO, _COMMA, _COLON = ord('"'), ord("."), ord("0"), ord(","), ord(":")
_OPEN, _CLOSE, _BRACE, _UNBRACE = ord("["), ord("]"), ord("{"), ord("}")
_TOPIC, _TYPE, _TS, _DATA, _CTS, _S, _B, _A, _U, _SEQ = (1 << place for place in range(10))
_NEEDED = _TOPIC | _TYPE | _TS | _DATA | _S | _B | _A | _U
_LETTER_A, _LETTER_B, _LETTER_C, _LETTER_D, _LETTER_E = b"abcde"
_LETTER_O, _LETTER_S, _LETTER_T, _LETTER_U, _LETTER_Y = b"ostuy"


def new_stream(every_message: bool) -> Integers:
    """A stream of which no message was applied and that follows no topic yet."""
    stream = np.zeros(TOPIC_START + LONGEST_TOPIC, np.int64)
    stream[EVERY_MESSAGE] = every_message
    return stream


def follow(stream: Integers, before: bytes, symbol: bytes) -> bool:
    """Take the deltas of the topic `before` + `symbol` from now on; answers whether it can be followed.

    It cannot where `before` is empty, the topic is too long, or JSON might write it in more than one way.
    """
    topic = before + symbol
    followed = bool(before) and len(topic) <= LONGEST_TOPIC and _PLAIN.issuperset(topic)
    stream[SYMBOL_AT] = stream[TOPIC_END] = 0
    if followed:
        stream[TOPIC_START : TOPIC_START + len(topic)] = list(topic)
        stream[SYMBOL_AT] = TOPIC_START + len(before)
        stream[TOPIC_END] = TOPIC_START + len(topic)
    return followed


@kernel
def scan_delta(
    text: bytes, stream: Integers, header: Integers, keys: Integers, sizes: Floats
) -> tuple[int, int, int, int, int, int]:
    """(bids, asks, u, seq, ts, cts) of the delta in `text`, bids -1 where refused.

    `bids` and `asks` are counts: the levels themselves are then in the rows NEW_BIDS and NEW_ASKS of `keys`
    and `sizes`, which with `header` are a book's. `stream` is as `follow` left it: its topic holds no `}` and
    nothing that JSON escapes.

    No index is checked against the end: the last byte is `}`, and nothing steps over one but the two places
    that expect one, of which the inner one checks. Without the compiler an index too far is an IndexError.
    """
    refused = (-1, 0, 0, 0, 0, 0)
    length = len(text)
    if stream[TOPIC_END] == 0 or length < 2 or text[length - 1] != _UNBRACE or text[0] != _BRACE:
        return refused
    mantissa, decimals = header[TICK_MANTISSA], header[TICK_DECIMALS]
    bids = asks = 0
    update_id = sequence = gateway_ms = exchange_ms = 0
    seen = 0
    inside = False  # `data`
    position = 1
    while True:
        if text[position] != _QUOTE:
            return refused
        first = text[position + 1]
        if first == _UNBRACE:
            return refused
        second = text[position + 2]
        position += 3
        if inside:
            if second == _QUOTE:
                if text[position] != _COLON:
                    return refused
                position += 1
                if first in (_LETTER_B, _LETTER_A):
                    if text[position] != _OPEN:
                        return refused
                    if first == _LETTER_B:
                        key = _B
                        bids, position = _levels(
                            text, position + 1, keys[NEW_BIDS], sizes[NEW_BIDS], 1, mantissa, decimals
                        )
                    else:
                        key = _A
                        asks, position = _levels(
                            text, position + 1, keys[NEW_ASKS], sizes[NEW_ASKS], -1, mantissa, decimals
                        )
                elif first == _LETTER_U:
                    key = _U
                    update_id, position = _integer(text, position)
                elif first == _LETTER_S:
                    key = _S
                    if text[position] != _QUOTE:
                        return refused
                    position += 1
                    position = _after_topic(text, position, stream, stream[SYMBOL_AT])
                else:
                    return refused
            elif first == _LETTER_S and second == _LETTER_E:
                key = _SEQ
                position = _after(text, position, b'q":')
                if position < 0:
                    return refused
                sequence, position = _integer(text, position)
            else:
                return refused
        elif first == _LETTER_T:
            if second == _LETTER_S:
                key = _TS
                position = _after(text, position, b'":')
                if position < 0:
                    return refused
                gateway_ms, position = _integer(text, position)
            elif second == _LETTER_Y:
                key = _TYPE
                position = _after(text, position, b'pe":"delta"')
            elif second == _LETTER_O:
                key = _TOPIC
                position = _after(text, position, b'pic":"')
                if position < 0:
                    return refused
                position = _after_topic(text, position, stream, TOPIC_START)
            else:
                return refused
        elif first == _LETTER_C and second == _LETTER_T:
            key = _CTS
            position = _after(text, position, b's":')
            if position < 0:
                return refused
            exchange_ms, position = _integer(text, position)
        elif first == _LETTER_D and second == _LETTER_A:
            key = _DATA
            position = _after(text, position, b'ta":{')
            if position < 0 or seen & key != 0:
                return refused
            seen |= key
            inside = True
            continue
        else:
            return refused
        if position < 0 or seen & key != 0:
            return refused
        seen |= key
        if inside and text[position] == _UNBRACE:
            inside = False
            position += 1
            if position >= length:
                return refused
        byte = text[position]
        position += 1
        if byte == _COMMA:
            continue
        if byte != _UNBRACE or inside or position != length:
            return refused
        break
    if seen & _NEEDED != _NEEDED or update_id == 1:
        return refused
    if exchange_ms == 0:
        exchange_ms = gateway_ms
    return bids, asks, update_id, sequence, gateway_ms, exchange_ms


@kernel
def _after(text: bytes, position: int, expected: bytes) -> int:
    """The index after `expected`, or -1 where something else stands at `position`."""
    for index in range(len(expected)):
        if text[position + index] != expected[index]:
            return -1
    return position + len(expected)


@kernel
def _after_topic(text: bytes, position: int, stream: Integers, start: int) -> int:
    """The index after the topic from `start` on and a quote, or -1 where others stand at `position`."""
    for index in range(start, stream[TOPIC_END]):
        if text[position] != stream[index]:
            return -1
        position += 1
    return position + 1 if text[position] == _QUOTE else -1


@kernel
def _integer(text: bytes, start: int) -> tuple[int, int]:
    """(value, end) of the integer at `start`; end is -1 where there is none that is taken."""
    position = start
    value = 0
    while True:
        digit = text[position] - _ZERO
        if digit < 0 or digit > 9:
            break
        value = value * 10 + digit
        position += 1
    digits = position - start
    if digits == 0 or digits > _MOST_DIGITS or (digits > 1 and text[start] == _ZERO):
        return 0, -1
    return value, position


@kernel
def _decimal(text: bytes, start: int) -> tuple[int, int, int]:
    """(mantissa, decimals, end) of the number at `start`; end is -1 where there is none that is taken."""
    position = start
    mantissa = 0
    while True:
        digit = text[position] - _ZERO
        if digit < 0 or digit > 9:
            break
        mantissa = mantissa * 10 + digit
        position += 1
    digits = position - start
    if digits == 0:
        return 0, 0, -1
    decimals = 0
    if text[position] == _POINT:
        position += 1
        fraction = position
        while True:
            digit = text[position] - _ZERO
            if digit < 0 or digit > 9:
                break
            mantissa = mantissa * 10 + digit
            position += 1
        decimals = position - fraction
        if decimals == 0:
            return 0, 0, -1
        digits += decimals
    if digits > _MOST_DIGITS or mantissa >= EXACT_MANTISSA:
        return 0, 0, -1
    return mantissa, decimals, position


@kernel
def _levels(
    text: bytes, start: int, keys: Integers, sizes: Floats, sign: int, tick_mantissa: int, tick_decimals: int
) -> tuple[int, int]:
    """(count, end) of the levels from `start` on, which is after the array's `[`; end is -1 where refused."""
    position = start
    if text[position] == _CLOSE:
        return 0, position + 1
    count = 0
    capacity = len(keys)
    while True:
        if count == capacity or text[position] != _OPEN or text[position + 1] != _QUOTE:
            return 0, -1
        mantissa, decimals, position = _decimal(text, position + 2)
        if position < 0 or mantissa == 0:
            return 0, -1
        while decimals > tick_decimals and mantissa % 10 == 0:
            mantissa //= 10
            decimals -= 1
        if decimals > tick_decimals:
            return 0, -1
        power = INTEGER_POWERS[tick_decimals - decimals]
        if power > 1:
            if mantissa > (MAXIMUM_SCALED_PRICE - 1) // power:
                return 0, -1
            mantissa *= power
        if tick_mantissa > 1:
            if mantissa % tick_mantissa != 0:
                return 0, -1
            mantissa //= tick_mantissa
        if text[position] != _QUOTE or text[position + 1] != _COMMA or text[position + 2] != _QUOTE:
            return 0, -1
        keys[count] = sign * mantissa
        mantissa, decimals, position = _decimal(text, position + 3)
        if position < 0 or text[position] != _QUOTE or text[position + 1] != _CLOSE:
            return 0, -1
        sizes[count] = mantissa / FLOAT_POWERS[decimals]
        count += 1
        position += 2
        if text[position] == _CLOSE:
            return count, position + 1
        if text[position] != _COMMA:
            return 0, -1
        position += 1
