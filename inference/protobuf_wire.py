"""The protobuf wire format, as much as reading an ONNX file needs: one field of a message after another."""

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Value = int | memoryview
"""A number, or the bytes of a string, a message or a fixed-width number."""


def fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """Field numbers and values of one message; raises ValueError or IndexError where it is none."""
    at, end = 0, len(message)
    while at < end:
        key, at = varint(message, at)
        kind = key & 7
        if kind == VARINT:
            value, at = varint(message, at)
            yield key >> 3, value
            continue
        if kind == BYTES:
            size, at = varint(message, at)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind} at byte {at}, 0, 1, 2 and 5 are allowed")
        if at + size > end:
            raise ValueError(f"{size} bytes announced at byte {at}, {end - at} there")
        yield key >> 3, message[at : at + size]
        at += size


def nested(value: Value) -> memoryview:
    """`value` as the bytes of a message or string; raises ValueError where it is a number."""
    if isinstance(value, int):
        raise ValueError("a number stands where a message belongs")  # noqa: TRY004 - the file's fault, not a type
    return value


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number at byte `at` and the byte after it."""
    value, shift = 0, 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError(f"a number longer than 64 bits at byte {at}")
