"""Frames that nobody should send, made from real ones; each kind is seeded by the `Random` it is given."""

import re
from collections.abc import Callable, Sequence
from random import Random

NUMBER = re.compile(rb"\d+(?:\.\d+)?")
MEMBER = re.compile(rb'"(\w+)":("[^"]*"|\d+|\[\[[^{}]*?\]\]|\[\])')
NUMBERS = (
    *(b"0", b"1", b"-1", b"-0", b"00", b"007", b"1.5", b"1.", b".5", b"1e3", b"1E400", b"-1e-400", b"0x10"),
    *(b"2147483648", b"4611686018427387904", b"4611686018427387905", b"9223372036854775807"),
    *(b"9223372036854775808", b"18446744073709551616", b"9" * 30, b"9" * 49, b"9" * 400, b"0." + b"0" * 60),
    *(b"0." + b"0" * 40 + b"1", b"9007199254740993", b"1000000000000000000", b"0.05", b"NaN", b"Infinity"),
    *(b"", b" 1", b"1 ", b"+1", b"1_0", b"null", b"true", b'"1"', b"[]", b"{}", "١٢".encode(), "１".encode()),
)
TEXTS = (
    *(b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"\x00", b"\x1f", b"\x7f"),
    *(
        "é".encode(),
        "💥".encode(),
        b"\\u0030",
        b"\\ud800",
        b"\\u",
        b"\\x",
        b"\\",
        b'\\"',
        b'"',
        b"\n",
        b"\r\n",
    ),
    *(b"\t", b"  ", b",", b"]", b"[", b"}", b"{", b":", b"//", b"/**/", b"'", b"\xe2\x80\xa8"),
)
KINDS = (b'"snapshot"', b'"delta"', b'"depthUpdate"', b'"Snapshot"', b"1", b"null")


def flip(frame: bytes, random: Random, donors: Sequence[bytes]) -> bytes:
    """One to four bytes are others."""
    changed = bytearray(frame)
    for _ in range(random.randint(1, 4)):
        place = random.randrange(len(changed))
        changed[place] = random.randrange(256) if random.random() < 0.5 else changed[place] ^ 1
    return bytes(changed)


def cut(frame: bytes, random: Random, donors: Sequence[bytes]) -> bytes:
    """A part at the start, at the end or inside is missing."""
    first = random.randrange(len(frame))
    last = min(len(frame), first + int(random.expovariate(0.05)) + 1)
    return (frame[:first], frame[first:], frame[:first] + frame[last:])[random.randrange(3)]


def repeat(frame: bytes, random: Random, donors: Sequence[bytes]) -> bytes:
    """A part comes twice."""
    first = random.randrange(len(frame))
    last = first + random.randint(1, 40)
    return frame[:last] + frame[first:]


def splice(frame: bytes, random: Random, donors: Sequence[bytes]) -> bytes:
    """The start of one frame and the end of another, cut at any byte or where a member begins."""
    donor = donors[random.randrange(len(donors))]
    if random.random() < 0.5:
        return frame[: random.randrange(len(frame))] + donor[random.randrange(len(donor)) :]
    key = (b'"data":', b'"b":', b'"a":', b'"u":', b'"ts":', b'"asks":', b'"bids":')[random.randrange(7)]
    here, there = frame.find(key), donor.find(key)
    return frame[: max(here, 0)] + donor[max(there, 0) :]


def edit_number(frame: bytes, random: Random, donors: Sequence[bytes]) -> bytes:
    """A number, in a text or not, is another."""
    place = random.randrange(len(frame))
    match = NUMBER.search(frame, place) or NUMBER.search(frame)
    if match is None:
        return frame + b"0"
    if random.random() < 0.4 and b"." not in match[0]:
        new = b"%d" % max(0, int(match[0][:40]) + random.choice((-2, -1, 1, 2, 10, 1000)))
    elif random.random() < 0.4:
        digits = bytearray(match[0])
        where = random.randrange(len(digits))
        if digits[where] != 46:
            digits[where] = 48 + random.randrange(10)
        new = bytes(digits)
    else:
        new = NUMBERS[random.randrange(len(NUMBERS))]
    return frame[: match.start()] + new + frame[match.end() :]


def duplicate_member(frame: bytes, random: Random, donors: Sequence[bytes]) -> bytes:
    """A member comes twice, the second time perhaps with another value."""
    members = list(MEMBER.finditer(frame))
    if not members:
        return frame + frame
    one = members[random.randrange(len(members))]
    value = one[2]
    if random.random() < 0.5:
        other = MEMBER.findall(donors[random.randrange(len(donors))])
        value = next((found for key, found in other if key == one[1]), b"0")
    place = members[random.randrange(len(members))].start()
    return frame[:place] + b'"' + one[1] + b'":' + value + b"," + frame[place:]


def replace_member(frame: bytes, random: Random, donors: Sequence[bytes]) -> bytes:
    """A member's value is a donor's, a kind of message or of another type; or its key is another."""
    members = list(MEMBER.finditer(frame))
    if not members:
        return b"{}"
    one = members[random.randrange(len(members))]
    if random.random() < 0.3:
        other = members[random.randrange(len(members))]
        return frame[: one.start(1)] + other[1] + frame[one.end(1) :]
    choice = random.random()
    if choice < 0.4:
        found = [
            value for key, value in MEMBER.findall(donors[random.randrange(len(donors))]) if key == one[1]
        ]
        new = found[0] if found else b"[]"
    elif choice < 0.6:
        new = KINDS[random.randrange(len(KINDS))]
    else:
        new = NUMBERS[random.randrange(len(NUMBERS))]
    return frame[: one.start(2)] + new + frame[one.end(2) :]


def nest(frame: bytes, random: Random, donors: Sequence[bytes]) -> bytes:
    """A value is lists or objects in one another, closed or not."""
    members = list(MEMBER.finditer(frame))
    depth = 20_000 if random.random() < 0.02 else random.randint(1, 300)
    opening, closing = (b"[", b"]") if random.random() < 0.7 else (b'{"a":', b"}")
    value = opening * depth + b"1" + (closing * depth if random.random() < 0.8 else b"")
    if not members:
        return value
    one = members[random.randrange(len(members))]
    if random.random() < 0.5:
        return frame[: one.start()] + b'"x":' + value + b"," + frame[one.start() :]
    return frame[: one.start(2)] + value + frame[one.end(2) :]


def insert_text(frame: bytes, random: Random, donors: Sequence[bytes]) -> bytes:
    """Unusual characters, escapes, control characters, bytes that are no UTF-8."""
    place = random.randrange(len(frame) + 1)
    return frame[:place] + TEXTS[random.randrange(len(TEXTS))] + frame[place:]


def respace(frame: bytes, random: Random, donors: Sequence[bytes]) -> bytes:
    """White space between tokens: still the same message."""
    space = (b" ", b"\n", b"\t\r\n ", b"   ")[random.randrange(4)]
    token = (b",", b":", b"[", b"]")[random.randrange(4)]
    return frame.replace(token, token + space if random.random() < 0.5 else space + token)


def add_member(frame: bytes, random: Random, donors: Sequence[bytes]) -> bytes:
    """A member more, which nobody knows: still the same message."""
    members = list(MEMBER.finditer(frame))
    if not members:
        return b'{"x":1}'
    place = members[random.randrange(len(members))].start()
    value = (b"null", b"-1.5e7", b'"\\u00e9\\n"', b'{"u":7,"b":[["1","1"]]}', b"[[],[{}]]")[
        random.randrange(5)
    ]
    return frame[:place] + b'"x":' + value + b"," + frame[place:]


Mutation = Callable[[bytes, Random, Sequence[bytes]], bytes]
MUTATIONS: tuple[Mutation, ...] = (
    *(flip, flip, cut, repeat, splice, edit_number, edit_number, edit_number, duplicate_member),
    *(replace_member, replace_member, nest, insert_text, insert_text, respace, add_member),
)


def mutate(frame: bytes, random: Random, donors: Sequence[bytes]) -> bytes:
    """`frame` after one mutation, at times after several."""
    while True:
        frame = MUTATIONS[int(random.random() * len(MUTATIONS))](frame, random, donors)
        if not frame or random.random() < 0.8:
            return frame
