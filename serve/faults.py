"""Faults on the wire between a market and its subscribers: each a function from stream to stream.

The exchange's own book follows what the market did; subscribers get what was sent.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lob.captures import CapturedFrame
from serve.wire_faults import WireFault

Sent = bytes | WireFault
"""A text message, or something else that befalls the connection."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One frame of a topic's market at its time, and what is sent of it: nothing, itself, or other things."""

    receive_ns: int
    market: bytes
    sent: tuple[Sent, ...]
    topic: str


Fault = Callable[[Iterator[Delivery]], Iterator[Delivery]]


TopicFrames = Iterable[tuple[str, CapturedFrame]]
"""The frames of a market in the order of their time, each with its topic."""


def faultless(frames: TopicFrames) -> Iterator[Delivery]:
    """Every frame sent as it is."""
    for topic, (receive_ns, frame) in frames:
        yield Delivery(receive_ns, frame, (frame,), topic)


def is_delta(frame: bytes) -> bool:
    """Whether a frame of an order-book topic is a change to the book before it."""
    return b'"type":"delta"' in frame
