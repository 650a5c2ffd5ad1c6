"""What the subscriber has to know of a venue: how its topics are named, asked for and told apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Operation = Literal["subscribe", "unsubscribe"]


class Topic(Protocol):
    """One stream of one symbol."""

    @property
    def symbol(self) -> str:
        """The instrument."""

    @property
    def name(self) -> str:
        """The topic as the venue spells it."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A venue's answer to a subscription; `request_id` is empty where the venue does not say which."""

    request_id: str
    success: bool
    message: str = ""


class VenueStream(Protocol):
    """A venue's words."""

    @property
    def topic_prefix(self) -> bytes:
        """How a pushed frame starts, up to its topic's text, which a quotation mark ends."""

    @property
    def ping_frame(self) -> str | None:
        """The text that is answered at once; None where a websocket ping does that."""

    def address(self, url: str, topics: Sequence[Topic]) -> str:
        """The address to connect to for `topics`."""

    def request(self, operation: Operation, topic: Topic, request_id: str) -> str | None:
        """The text frame that subscribes to `topic` or leaves it; None where the address does."""

    def topic_of(self, frame: bytes) -> str:
        """The topic in a pushed frame, read as JSON; empty where it has none. Never raises."""

    def reply_in(self, frame: bytes) -> Reply | None:
        """The answer to a subscription in `frame`; None for any other frame. Never raises."""

    async def fetch_snapshot(self, topic: Topic) -> bytes | Reply | None:
        """A snapshot as a frame, where the venue gives it apart from the stream; a refusal for none.

        None where a new subscription brings it, or the topic has none.
        """
