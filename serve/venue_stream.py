"""What the subscriber has to know of a venue: how its topics are named, asked for and told apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from serve.rate_bound import RequestRate

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
    """A venue's answer to a subscription; `request_id` is empty where the venue does not say which.

    `retry_after_s`: so long the venue wants no request of this kind, whatever its topic; None where it does
    not say.
    """

    request_id: str
    success: bool
    message: str = ""
    retry_after_s: float | None = None


class VenueStream(Protocol):
    """A venue's words."""

    @property
    def topic_prefix(self) -> bytes:
        """How a pushed frame starts, up to its topic's text, which a quotation mark ends."""

    @property
    def ping_frame(self) -> str | None:
        """The text that is answered at once; None where a websocket ping does that."""

    @property
    def snapshot_apart(self) -> bool:
        """Whether the address subscribes, and a book's snapshot is fetched beside the stream.

        Else a subscription is asked for by request, and brings the snapshot.
        """

    @property
    def request_rate(self) -> RequestRate:
        """How often one connection may subscribe by request; leaving a topic first counts as the same one."""

    @property
    def topics_a_request(self) -> int:
        """How many topics one request may subscribe to; a refusal is of all of them."""

    def address(self, url: str, topics: Sequence[Topic]) -> str:
        """The address to connect to for `topics`."""

    def request(self, operation: Operation, topics: Sequence[Topic], request_id: str) -> str:
        """The text frame that subscribes to `topics` or leaves them; `request_id` is digits."""

    def topic_of(self, frame: bytes) -> str:
        """The topic in a pushed frame, read as JSON; empty where it has none. Never raises."""

    def is_readable(self, frame: bytes) -> bool:
        """Whether `frame` can be read, whatever it holds; one that cannot may have been any topic's."""

    def reply_in(self, frame: bytes) -> Reply | None:
        """The answer to a subscription in `frame`; None for any other frame. Never raises."""

    def snapshot_follows(self, topic: Topic) -> bool:
        """Whether a snapshot is of use only once a change of `topic` has come, and is fetched only then.

        A topic whose snapshot is lost is subscribed anew only where its stream has gone silent.
        """

    async def fetch_snapshot(self, topic: Topic) -> bytes | Reply | None:
        """A snapshot as a frame, where the venue gives it apart from the stream; a refusal for none.

        None where a new subscription brings it, or the topic has none.
        """
