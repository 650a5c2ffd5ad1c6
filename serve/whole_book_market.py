"""The exchange's side of whole books: changes alone on the wire, the snapshot on request, with its faults.

Source: Bybit API documentation v5, "Full Orderbook" (websocket stream) and "Get Full Depth Orderbook" (REST).
The words of a refusal are those recorded of `instruments-info`, as none of this route are.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import msgspec

from lob.bybit import is_whole_book
from serve.bybit_stream import CATEGORIES
from serve.exchange_book import ExchangeBook, decode_book
from serve.faults import Delivery, Sent
from serve.frame_edits import update_id
from serve.playback import Timeline

PAST_EVERY = 10
"""Updates between the books that are kept for the fault `old-snapshot`."""


def changes_alone(deliveries: Iterator[Delivery]) -> Iterator[Delivery]:
    """The stream as it is sent: of whole books no snapshot, but a sign that their numbers begin anew."""
    for delivery in deliveries:
        if not is_whole_book(delivery.topic):
            yield delivery
            continue
        sent = tuple(part for one in delivery.sent for part in _on_the_wire(one))
        yield replace(delivery, sent=sent)


def _on_the_wire(sent: Sent) -> tuple[Sent, ...]:
    if not isinstance(sent, bytes) or b'"type":"snapshot"' not in sent:
        return (sent,)
    if update_id(sent) != 1:
        return ()
    message = decode_book(sent)
    message.type = "delta"
    message.data.b, message.data.a = [], []
    return (msgspec.json.encode(message),)


class WholeBookDesk:
    """Answers requests for whole books.

    `fault_of` says which kind of fault, if any, a request for a topic's book meets, given the book's `u`.
    `keeps_past`: whether `old-snapshot` may be among them, for which `follow` has to be told of each update.
    """

    def __init__(self, fault_of: Callable[[str, int], str], *, keeps_past: bool) -> None:
        self.keeps_past = keeps_past
        self._fault_of = fault_of
        self._past: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
        self._updates: dict[str, int] = {}

    def follow(self, timeline: Timeline) -> None:
        """The exchange's book of a topic has followed a frame."""
        if not is_whole_book(timeline.topic) or not timeline.book.is_known:
            return
        count = self._updates.get(timeline.topic, 0)
        self._updates[timeline.topic] = count + 1
        if count % PAST_EVERY == 0:
            now = _result(timeline.book)
            self._past[timeline.topic] = (self._past.get(timeline.topic, (now, now))[1], now)

    def answer(
        self, timeline: Timeline | None, query: Mapping[str, str], time_ms: int
    ) -> tuple[HTTPStatus, bytes]:
        """The status and body for a request with the parameters `query`, of the topic of `timeline`."""
        if query.get("category") not in CATEGORIES:
            return HTTPStatus.OK, _body(10001, "Illegal category", {}, time_ms)
        if timeline is None:
            return HTTPStatus.OK, _body(10001, "params error: symbol invalid", {}, time_ms)
        fault = self._fault_of(timeline.topic, timeline.book.update_id)
        if fault == "failed-snapshot":
            return HTTPStatus.INTERNAL_SERVER_ERROR, b"injected fault"
        result = _result(timeline.book) if timeline.book.is_known else _nothing(query.get("symbol", ""))
        if fault == "old-snapshot" and timeline.topic in self._past:
            result = self._past[timeline.topic][0]
        return HTTPStatus.OK, _body(0, "OK", result, time_ms)


def _result(book: ExchangeBook) -> dict[str, Any]:
    message = decode_book(book.snapshot())
    data = message.data
    return {
        "s": data.s,
        "b": data.b,
        "a": data.a,
        "ts": message.ts,
        "u": data.u,
        "seq": data.seq,
        "cts": message.cts or message.ts,
    }


def _nothing(symbol: str) -> dict[str, Any]:
    """What is said of a book before it is known; it fits no change."""
    return {"s": symbol, "b": [], "a": [], "ts": 0, "u": 1, "seq": 1, "cts": 0}


def _body(code: int, message: str, result: dict[str, Any], time_ms: int) -> bytes:
    return msgspec.json.encode(
        {"retCode": code, "retMsg": message, "result": result, "retExtInfo": {}, "time": time_ms}
    )
