"""Bybit's whole book as a subscriber sees it: a topic of changes alone, and the snapshot asked for over HTTP.

Source: Bybit API documentation v5, "Full Orderbook" (websocket stream) and "Get Full Depth Orderbook" (REST:
at most 10,000 levels a side, so levels further away are unknown until a change tells of them).
"""

import asyncio
from urllib.parse import urlencode

from lob.bybit import BybitDecoder
from lob.messages import WHOLE_BOOK, BookUpdate, VenueError
from serve.bybit_stream import BookTopic, BybitStream, printable, rest_base_url
from serve.http_get import HttpError, http_get
from serve.venue_stream import Reply, Topic

SNAPSHOT_PATH = "/v5/market/full_orderbook"

SNAPSHOT_TIMEOUT_S = 3.0
"""A stopping process waits for a request that is under way; a second one may overtake it meanwhile."""

TOO_FREQUENT_STATUS = 403
LEAVE_ALONE_S = 600.0
"""How long to ask nothing after that status: Bybit bans an address for ten minutes (v5, "Rate Limit")."""

MAXIMUM_SNAPSHOT_BYTES = 4 * 1024 * 1024
"""20,000 levels have half a megabyte; the documented longest texts, twice that."""


class BybitWholeBookStream(BybitStream):
    """Bybit's words where whole books may be among the topics; a `serve.venue_stream.VenueStream`.

    The snapshots of single topics are held to the resync policy's interval: Bybit allows an address 600
    requests in 5 s (documentation v5, "Rate Limit").
    """

    def __init__(self, url: str, category: str) -> None:
        super().__init__(category)
        self._base_url = rest_base_url(url)
        self._category = category

    def snapshot_follows(self, topic: Topic) -> bool:
        """Whether it is a whole book's: an older snapshot than its first change could not be joined."""
        return isinstance(topic, BookTopic) and topic.depth == WHOLE_BOOK

    async def fetch_snapshot(self, topic: Topic) -> bytes | Reply | None:
        """The whole book as the exchange answers; None for other topics; a refusal where it cannot be had."""
        if not self.snapshot_follows(topic):
            return None
        query = urlencode({"category": self._category, "symbol": topic.symbol})
        url = f"{self._base_url}{SNAPSHOT_PATH}?{query}"
        return await asyncio.to_thread(_fetch, url, topic.symbol)


def _fetch(url: str, symbol: str) -> bytes | Reply:
    """The answer, where it is a snapshot of `symbol`; else the reason why there is none. Blocks."""
    try:
        body = http_get(url, timeout_s=SNAPSHOT_TIMEOUT_S, maximum_bytes=MAXIMUM_SNAPSHOT_BYTES)
    except HttpError as error:
        banned = error.status == TOO_FREQUENT_STATUS
        return Reply(
            request_id="",
            success=False,
            message=str(error),
            retry_after_s=(error.retry_after_s or LEAVE_ALONE_S) if banned else None,
        )
    answer = BybitDecoder().decode(body)
    if isinstance(answer, BookUpdate) and answer.is_snapshot and answer.symbol == symbol:
        return body
    said = answer.message if isinstance(answer, VenueError) else "its answer is not the documented one"
    return Reply(request_id="", success=False, message=printable(said))
