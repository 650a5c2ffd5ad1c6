"""Binance's combined streams as a subscriber sees them: addresses, topics, and the snapshot asked for beside.

The topics stand in the address, so only what fell silent is subscribed by request, and a book's snapshot
comes over HTTP. Sources: Binance API documentation, "WebSocket Streams", "Live Subscribing/Unsubscribing to
streams", "Diff. Depth Stream", "Order Book", "Limits" and "Exchange Information", spot and USD-M futures.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

import msgspec

from lob.binance import BinanceDecoder
from lob.errors import InputError
from lob.messages import Malformed
from serve.bybit_stream import check_stream_url, check_symbol, printable
from serve.http_get import HttpError, http_get
from serve.instrument_cache import InstrumentInfo
from serve.rate_bound import RequestRate
from serve.venue_stream import Operation, Reply, Topic

CATEGORIES = ("linear", "spot")
STREAM_URLS = {"linear": "wss://fstream.binance.com", "spot": "wss://stream.binance.com:9443"}
REST_HOSTS = {
    "fstream.binance.com": "fapi.binance.com",
    "stream.binance.com": "api.binance.com",
    "stream.binance.com:9443": "api.binance.com",
}
REST_PATHS = {"linear": "/fapi/v1", "spot": "/api/v3"}

SNAPSHOT_LEVELS = 1_000
TIMEOUT_S = 10.0
SNAPSHOT_TIMEOUT_S = 3.0
"""A stopping process waits for a request that is under way."""

LEAVE_ALONE_S = {403: 60.0, 418: 120.0, 429: 60.0}
"""How long to ask nothing after a status by which Binance guards its limits, where it does not say itself.

Its limits are counted by the minute; 418 is a ban, the shortest of two minutes."""

LONGEST_BAN_S = 3 * 86_400.0
"""Binance bans for three days at most."""

MAXIMUM_LISTING_BYTES = 16 * 1024 * 1024
"""The listing of all USD-M futures has some megabytes; there is none of a single one."""


def resolve_binance(url: str | None, category: str | None) -> tuple[str, str]:
    """(address, category) of a stream from the two options a user may give; raises InputError.

    The category given counts, then linear (USD-M futures); the address given counts, then Binance's own.
    """
    category = _check_category(category or "linear")
    return (STREAM_URLS[category] if url is None else check_stream_url(url)), category


def rest_url(stream_url: str, category: str) -> str:
    """Where the REST requests of a stream go: Binance's own hosts, else the stream's host and port."""
    path = REST_PATHS[_check_category(category)]
    parts = urlsplit(check_stream_url(stream_url))
    host = parts.netloc.rpartition("@")[2]
    scheme = "https" if parts.scheme == "wss" else "http"
    return f"{scheme}://{REST_HOSTS.get(host, host)}{path}"


def _check_category(category: str) -> str:
    if category not in CATEGORIES:
        raise InputError(f"category: {category!r} came, {', '.join(CATEGORIES)} are allowed for binance")
    return category


@dataclass(frozen=True, kw_only=True)
class DepthTopic:
    """The changes of one symbol's whole book, every 100 ms."""

    symbol: str

    def __post_init__(self) -> None:
        check_symbol(self.symbol)

    @property
    def name(self) -> str:
        """The stream as the venue spells it."""
        return f"{self.symbol.lower()}@depth@100ms"


@dataclass(frozen=True, kw_only=True)
class TradeTopic:
    """The trades of one symbol: single ones on spot, those of one taker's order together on futures."""

    symbol: str
    category: str

    def __post_init__(self) -> None:
        check_symbol(self.symbol)

    @property
    def name(self) -> str:
        """The stream as the venue spells it."""
        return f"{self.symbol.lower()}@{'trade' if self.category == 'spot' else 'aggTrade'}"


class _Named(msgspec.Struct):
    stream: str = ""


class _Problem(msgspec.Struct):
    msg: str = ""


class _Answer(msgspec.Struct):
    """What comes for a request: `{"result":null,"id":1}`, or an error in one of two spellings."""

    id: int | None = None
    code: int = 0
    msg: str = ""
    error: _Problem | None = None


class BinanceStream:
    """Binance's words; a `serve.venue_stream.VenueStream`."""

    topic_prefix = b'{"stream":"'
    ping_frame: str | None = None
    snapshot_apart = True
    request_rate = RequestRate(burst=1, per_s=1.0)
    """Two messages each (leave, subscribe); a connection that sends more than five a second is cut."""
    topics_a_request = 1
    """What stands in the address needs no request; a topic that fell silent is asked for alone."""

    def __init__(self, url: str, category: str) -> None:
        self._rest_url = rest_url(url, category)
        self._decoder = BinanceDecoder()
        self._named = msgspec.json.Decoder(_Named)
        self._answer = msgspec.json.Decoder(_Answer)

    def address(self, url: str, topics: Sequence[Topic]) -> str:
        """The address of the combined stream of all topics."""
        return f"{url.rstrip('/')}/stream?streams={'/'.join(topic.name for topic in topics)}"

    def request(self, operation: Operation, topics: Sequence[Topic], request_id: str) -> str:
        """The text frame that subscribes to `topics` or leaves them."""
        names = [topic.name for topic in topics]
        request = {"method": operation.upper(), "params": names, "id": int(request_id)}
        return msgspec.json.encode(request).decode()

    def topic_of(self, frame: bytes) -> str:
        """The topic in a pushed frame; empty where it has none."""
        try:
            return self._named.decode(frame).stream
        except (ValueError, RecursionError):
            return ""

    def is_readable(self, frame: bytes) -> bool:
        """Whether `frame` can be read, whatever it holds."""
        return not isinstance(self._decoder.decode(frame), Malformed)

    def reply_in(self, frame: bytes) -> Reply | None:
        """The answer to a request in `frame`; None for any other frame."""
        try:
            answer = self._answer.decode(frame)
        except (ValueError, RecursionError):
            return None
        if answer.id is None:
            return None
        message = answer.msg if answer.error is None else answer.error.msg
        success = answer.error is None and not answer.code and not message
        return Reply(request_id=str(answer.id), success=success, message=message)

    def snapshot_follows(self, topic: Topic) -> bool:
        """False: it may be older than the first change, and is fetched at once."""
        return False

    async def fetch_snapshot(self, topic: Topic) -> bytes | Reply | None:
        """The book's snapshot; None for trades, which have none; a refusal where it cannot be had."""
        if not isinstance(topic, DepthTopic):
            return None
        query = urlencode({"symbol": topic.symbol, "limit": SNAPSHOT_LEVELS})
        url = f"{self._rest_url}/depth?{query}"
        try:
            return await asyncio.to_thread(http_get, url, timeout_s=SNAPSHOT_TIMEOUT_S)
        except HttpError as error:
            retry_after_s = LEAVE_ALONE_S.get(error.status or 0)
            if retry_after_s is not None and error.retry_after_s is not None:
                retry_after_s = min(error.retry_after_s, LONGEST_BAN_S)
            return Reply(
                request_id="",
                success=False,
                message=f"{error} {_words(error.body)}".rstrip(),
                retry_after_s=retry_after_s,
            )


class _Filter(msgspec.Struct, rename="camel"):
    filter_type: str
    tick_size: str = ""
    step_size: str = ""


class _Listed(msgspec.Struct):
    symbol: str
    filters: list[_Filter]


class _Listing(msgspec.Struct):
    symbols: list[_Listed]


def fetch_binance_info(stream_url: str, category: str, symbol: str) -> InstrumentInfo:
    """What Binance says of `symbol`; blocks.

    Raises HttpError where there is no usable answer, InputError where the symbol is not listed.
    """
    query = f"?{urlencode({'symbol': symbol})}" if category == "spot" else ""
    url = f"{rest_url(stream_url, category)}/exchangeInfo{query}"
    unknown = f"the tick size of {symbol} is not known: {url} was asked and"
    without = "give it with --tick-size to do without"
    try:
        body = http_get(url, timeout_s=TIMEOUT_S, maximum_bytes=MAXIMUM_LISTING_BYTES)
        listing = msgspec.json.decode(body, type=_Listing)
    except HttpError as error:
        words = _words(error.body)
        if "invalid symbol" in words.lower():
            raise InputError(f"{unknown} it answers {words}; {without}") from error
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(f"its answer is not the documented one ({error})") from error
    for listed in listing.symbols:
        if listed.symbol == symbol:
            sizes = {one.filter_type: one.tick_size or one.step_size for one in listed.filters}
            info = InstrumentInfo(
                source=urlsplit(url).netloc,
                category=category,
                symbol=symbol,
                tick_size=sizes.get("PRICE_FILTER", ""),
                lot_size=sizes.get("LOT_SIZE", ""),
                fetched_ms=time.time_ns() // 1_000_000,
            )
            _ = info.instrument  # a tick size that is none is found here
            return info
    raise InputError(f"{unknown} it does not list {symbol}; {without}")


def _words(body: bytes) -> str:
    """Binance's own words for a refusal; empty where there are none."""
    try:
        return printable(msgspec.json.decode(body, type=_Problem).msg)
    except (ValueError, RecursionError):
        return ""
