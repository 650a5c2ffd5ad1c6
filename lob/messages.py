"""The messages a venue sends, in one vocabulary for all venues.

A decoder answers one of these for any frame whatever; it never raises. Book levels stay the venue's JSON text
here: they become ticks and sizes inside the one jitted call that also applies them to the book.
"""

from typing import TypeAlias

from msgspec import Raw, Struct

WHOLE_BOOK = 0
"""The depth of a stream of all levels."""


class BookUpdate(Struct, gc=False):
    """A snapshot of the book or a change to it, levels still as the JSON text `[["price","size"],...]`.

    `first_update_id` to `update_id` is the range of changes it holds; `previous_update_id` is the update
    before it where the venue says so, else -1. `continues` marks a full replacement inside a running stream
    (Bybit's one-level topic sends nothing else): it overwrites the book and is no break. `depth` is the
    topic's number of levels, WHOLE_BOOK where the venue names none; `symbol` is empty where the message names
    none. `exact` marks changes, and snapshots fetched beside them, that are joined where `update_id` and
    `sequence` are the same (`lob.exact_join`).
    """

    symbol: str
    is_snapshot: bool
    first_update_id: int
    update_id: int
    previous_update_id: int
    sequence: int
    exchange_ms: int
    gateway_ms: int
    bids: bytes | Raw
    asks: bytes | Raw
    depth: int = 0
    continues: bool = False
    exact: bool = False


class Acknowledgement(Struct, gc=False):
    """The venue's answer to a subscribe or unsubscribe request."""

    operation: str
    success: bool
    message: str
    request_id: str
    connection_id: str


class Pong(Struct, gc=False):
    """The venue's answer to a ping."""

    request_id: str
    connection_id: str


class VenueError(Struct, gc=False):
    """The venue refused something that was no subscription."""

    message: str


class Trade(Struct, gc=False):
    """One trade as the venue printed it; price and size stay its decimal text, the grid being unknown here.

    `side` is the taker's: 1 bought, -1 sold. `exchange_ms` is the matching engine's time. `sequence` counts
    everything the venue does to the symbol where it says so, else 0; `trade_id` is the venue's own.
    """

    symbol: str
    exchange_ms: int
    price: str
    size: str
    side: int
    trade_id: str
    sequence: int = 0


class Trades(Struct, gc=False):
    """Trades of one symbol that came in one message, in the venue's order."""

    topic: str
    gateway_ms: int
    trades: list[Trade]


class Other(Struct, gc=False):
    """A well-formed message that the order book has no use for."""

    topic: str


class Malformed(Struct, gc=False):
    """A frame that is no JSON, or JSON of a shape the venue does not document."""

    reason: str


Message: TypeAlias = BookUpdate | Acknowledgement | Pong | VenueError | Trades | Other | Malformed
