"""What a feed needs of the one that takes a topic's frames in, and of who takes several topics' at once."""

from collections.abc import Sequence
from typing import Protocol, TypeAlias


class FrameConsumer(Protocol):
    """Takes a topic's frames in; everything is synchronous and short."""

    @property
    def keeps_book(self) -> bool:
        """Whether it needs a snapshot to begin with; whether a connection serves is for these to say."""

    @property
    def needs_resync(self) -> bool:
        """Whether the book is lost and nobody has asked for a new snapshot yet."""

    @property
    def awaits_snapshot(self) -> bool:
        """Whether nothing can be made of the stream until a snapshot comes."""

    @property
    def reason(self) -> str:
        """Why the book is lost, for people; anything where it is not."""

    @property
    def unreadable_frames(self) -> int:
        """How many frames were dropped so far because they, or the levels in them, could not be read."""

    def on_connected(self) -> None:
        """A new connection stands; its first book message will be a snapshot."""

    def on_disconnected(self, reason: str) -> None:
        """The connection is lost, or this topic is refused on it; `reason` is for people."""

    def on_frame(self, frame: bytes, receive_ns: int) -> None:
        """One message, as it came. May raise ConnectionEndedError to have the connection given up."""

    def on_unnamed_frame(self, frame: bytes, receive_ns: int, *, readable: bool) -> None:
        """A frame that names no topic, told to every consumer: a reply, or what nobody can read.

        With hundreds of topics each does no more than it has to.
        """

    def check_freshness(self, now_ns: int) -> object:
        """It is `now_ns`: decide whether the stream has stalled."""

    def resync_requested(self) -> None:
        """A new snapshot has been asked for."""


Due: TypeAlias = tuple[FrameConsumer, bytes, int]
"""A consumer, the frame that is due on it, and when that was received."""


class FrameBatch(Protocol):
    """Takes frames of several symbols that are there at once."""

    @property
    def least_waiting(self) -> int:
        """How many frames have to wait behind the first one so that a batch is of use."""

    def on_frames(self, due: Sequence[Due]) -> None:
        """What `on_frame` of each does, in this order; no symbol has two. May raise as those may."""
