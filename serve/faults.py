"""Faults on the wire between a market and its subscribers: each a function from stream to stream.

The exchange's own book follows what the market did; subscribers get what was sent.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from lob.captures import CapturedFrame
from lob.errors import InputError


@dataclass(frozen=True, slots=True)
class Delivery:
    """One frame of the market at its time, and what is sent of it: nothing, itself, or something else."""

    receive_ns: int
    market: bytes
    sent: tuple[bytes, ...]


Fault = Callable[[Iterator[Delivery]], Iterator[Delivery]]


def faultless(frames: Iterable[CapturedFrame]) -> Iterator[Delivery]:
    """Every frame sent as it is."""
    for receive_ns, frame in frames:
        yield Delivery(receive_ns, frame, (frame,))


def drop_every(count: int) -> Fault:
    """The fault that sends none of every `count`-th delta; raises InputError where `count` is below 1."""
    if count < 1:
        raise InputError(f"drop_every: {count} came; allowed: 1 and above")

    def drop(deliveries: Iterator[Delivery]) -> Iterator[Delivery]:
        deltas = 0
        for delivery in deliveries:
            if b'"type":"delta"' in delivery.market:
                deltas += 1
                if deltas % count == 0:
                    yield replace(delivery, sent=())
                    continue
            yield delivery

    return drop
