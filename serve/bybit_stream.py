"""Bybit's v5 public stream as a subscriber sees it: addresses, topics, and the text of its requests.

Source: Bybit API documentation v5: "Connect" and "Orderbook" (websocket stream), "Get Instruments
Info" (REST).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import urlsplit

import msgspec

from lob.bybit import DEPTHS, FULL, BybitDecoder, book_topic
from lob.errors import InputError
from lob.messages import WHOLE_BOOK, Acknowledgement, Malformed, VenueError
from serve.rate_bound import RequestRate
from serve.venue_stream import Operation, Reply, Topic

logger = logging.getLogger(__name__)

Category = Literal["linear", "spot", "inverse"]
CATEGORIES: tuple[str, ...] = get_args(Category)

TOPICS_A_REQUEST = 30
"""A choice: a thousand topics then make about as many requests, and where one is refused, few are asked for
again alone. Bybit sets no number but for spot; its 21,000 characters of topics are of a connection."""

SPOT_TOPICS_A_REQUEST = 10
"""Topics that one request may hold on the spot stream (Bybit API documentation v5, "Connect")."""

# A heartbeat every 20 s, as the documentation advises: an idle connection is cut.
PING_FRAME = '{"op":"ping"}'


def public_stream_url(category: str) -> str:
    """The address of Bybit's main-net public stream of `category`."""
    if category not in CATEGORIES:
        raise InputError(f"category: {category!r} came, {', '.join(CATEGORIES)} are allowed")
    return f"wss://stream.bybit.com/v5/public/{category}"


def category_of(url: str) -> str | None:
    """The category in a stream address's path (`.../v5/public/<category>`); None where it names none."""
    last = urlsplit(url).path.rstrip("/").rpartition("/")[2]
    return last if last in CATEGORIES else None


def check_stream_url(url: str) -> str:
    """`url` itself, if it is a websocket address; raises InputError."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InputError(f"url: {url!r} came, ws://HOST[:PORT]/PATH or wss://HOST[:PORT]/PATH is allowed")
    return url


def resolve_stream(url: str | None, category: str | None) -> tuple[str, str]:
    """(address, category) of a stream from the two options a user may give.

    The category given counts, then the one the address names, then linear; the address given counts, then
    Bybit's public one of the category. Raises InputError where either is none.
    """
    if url is not None:
        return check_stream_url(url), category or category_of(url) or "linear"
    category = category or "linear"
    return public_stream_url(category), category


def public_address(url: str) -> str:
    """`url` without the parts that may hold a secret: user, password, query and fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def rest_base_url(stream_url: str) -> str:
    """The HTTP address that serves the instruments of a stream.

    Bybit keeps streams and REST on two hosts (`stream.bybit.com` and `api.bybit.com`, likewise
    `stream-testnet`); any other host, such as the local exchange, answers both on its own port.
    """
    parts = urlsplit(check_stream_url(stream_url))
    host = parts.netloc.rpartition("@")[2]
    label, dot, domain = host.partition(".")
    if dot and domain.startswith("bybit") and label.startswith("stream"):
        host = "api" + label.removeprefix("stream") + "." + domain
    return f"{'https' if parts.scheme == 'wss' else 'http'}://{host}"


@dataclass(frozen=True, kw_only=True)
class BookTopic:
    """The order-book topic of one symbol at one depth, or of its whole book (`lob.messages.WHOLE_BOOK`)."""

    symbol: str
    depth: int

    def __post_init__(self) -> None:
        check_symbol(self.symbol)
        if self.depth not in {*DEPTHS, WHOLE_BOOK}:
            raise InputError(
                f"depth: {self.depth} came, {', '.join(map(str, DEPTHS))} and {FULL} are allowed"
            )

    @property
    def name(self) -> str:
        """The topic as the exchange spells it."""
        return book_topic(self.depth, self.symbol)


@dataclass(frozen=True, kw_only=True)
class TradeTopic:
    """The public trades of one symbol."""

    symbol: str

    def __post_init__(self) -> None:
        check_symbol(self.symbol)

    @property
    def name(self) -> str:
        """The topic as the exchange spells it."""
        return f"publicTrade.{self.symbol}"


def read_depth(text: str) -> int:
    """The depth that a user names: one of DEPTHS, or FULL for the whole book; raises InputError."""
    depths = {FULL: WHOLE_BOOK, **{str(depth): depth for depth in DEPTHS}}
    if text not in depths:
        raise InputError(f"depth: {text!r} came, {', '.join(map(str, DEPTHS))} and {FULL} are allowed")
    return depths[text]


def check_symbol(symbol: str) -> None:
    """Raises InputError for a name no exchange would list."""
    if not symbol.isascii() or not symbol.replace("-", "").isalnum() or len(symbol) > 40:
        raise InputError(f"symbol: {symbol!r} came, up to 40 letters, digits and '-' are allowed")


class _Named(msgspec.Struct):
    topic: str = ""


class BybitStream:
    """Bybit's words; a `serve.venue_stream.VenueStream`. A subscription brings the snapshot."""

    topic_prefix = b'{"topic":"'
    ping_frame: str | None = PING_FRAME
    snapshot_apart = False
    request_rate = RequestRate(burst=100, per_s=20)
    """Bybit documents no limit; a storm of lost books is none of its concern all the same."""

    def __init__(self, category: str = "linear") -> None:
        self.topics_a_request = SPOT_TOPICS_A_REQUEST if category == "spot" else TOPICS_A_REQUEST
        self._decoder = BybitDecoder()
        self._named = msgspec.json.Decoder(_Named)

    def address(self, url: str, topics: Sequence[Topic]) -> str:
        """The address as it is."""
        return url

    def request(self, operation: Operation, topics: Sequence[Topic], request_id: str) -> str:
        """The text frame that subscribes to `topics` or leaves them."""
        request = {"op": operation, "req_id": request_id, "args": [topic.name for topic in topics]}
        return msgspec.json.encode(request).decode()

    def topic_of(self, frame: bytes) -> str:
        """The topic in a pushed frame; empty where it has none."""
        try:
            return self._named.decode(frame).topic
        except (ValueError, RecursionError):
            return ""

    def is_readable(self, frame: bytes) -> bool:
        """Whether `frame` can be read, whatever it holds."""
        return not isinstance(self._decoder.decode(frame), Malformed)

    def reply_in(self, frame: bytes) -> Reply | None:
        """The answer to a subscription in `frame`; None for any other frame."""
        message = self._decoder.decode(frame)
        if isinstance(message, VenueError):
            logger.warning("the exchange reports an error: %s", printable(message.message))
        if not isinstance(message, Acknowledgement) or message.operation != "subscribe":
            return None
        return Reply(request_id=message.request_id, success=message.success, message=message.message)

    def snapshot_follows(self, topic: Topic) -> bool:
        """False: a new subscription brings it."""
        return False

    async def fetch_snapshot(self, topic: Topic) -> bytes | Reply | None:
        """None: a new subscription brings it."""
        return None


def printable(text: str, length: int = 200) -> str:
    """An exchange's words on one line, without control characters, cut to `length`."""
    return "".join(c if c.isprintable() else "?" for c in text[:length])
