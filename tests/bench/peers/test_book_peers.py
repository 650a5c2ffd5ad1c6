"""Each peer keeps the book of its messages, checked against a dictionary book kept from the same text."""

import json
from decimal import Decimal
from itertools import islice
from typing import Any

import pytest

from bench.frame_source import seeded_source
from bench.peers.book_peer import DISTRIBUTIONS, BookPeer, installed_peers, make_peer

TOPIC = "orderbook.50.BTCUSDT"
INSTALLED, _ = installed_peers()


def frames(count: int, *, depth: int = 50, changes_a_side: int = 3) -> list[bytes]:
    source = seeded_source(11, depth=depth, changes_a_side=changes_a_side)
    return [captured.frame for captured in islice(source.passes(), count)]


def dictionary_levels(messages: list[dict[str, Any]]) -> tuple[list[tuple[float, float]], ...]:
    """(bids, asks), best first, of the book the messages make."""
    book: dict[str, dict[Decimal, str]] = {"b": {}, "a": {}}
    for message in messages:
        for side in "ba":
            if message["type"] == "snapshot":
                book[side].clear()
            for price, size in message["data"][side]:
                book[side].pop(Decimal(price), None)
                if Decimal(size) != 0:
                    book[side][Decimal(price)] = size
    return tuple(
        [(float(price), float(size)) for price, size in sorted(book[side].items(), reverse=side == "b")]
        for side in "ba"
    )


@pytest.fixture(params=DISTRIBUTIONS)
def peer(request: pytest.FixtureRequest) -> BookPeer:
    if request.param not in INSTALLED:
        pytest.skip(f"{DISTRIBUTIONS[request.param]} is not installed (extra peers)")
    return make_peer(request.param, TOPIC)


@pytest.mark.parametrize(("depth", "changes_a_side"), [(50, 3), (200, 10), (1000, 30)])
@pytest.mark.parametrize("way", ["apply", "on_frame"])
def test_a_peers_book_is_the_book_of_its_messages(
    peer: BookPeer, depth: int, changes_a_side: int, way: str
) -> None:
    peer = make_peer(peer.name, f"orderbook.{depth}.BTCUSDT")
    sent = frames(120, depth=depth, changes_a_side=changes_a_side)
    for frame in sent:
        if way == "apply":
            peer.apply(json.loads(frame))
        else:
            peer.on_frame(frame.decode())
    bids, asks = dictionary_levels([json.loads(frame) for frame in sent])
    assert len(bids) == len(asks) == depth
    assert peer.levels() == (bids, asks)


def test_a_snapshot_overwrites_a_peers_book(peer: BookPeer) -> None:
    for frame in frames(30):
        peer.apply(json.loads(frame))
    snapshot = json.loads(frames(1)[0])
    peer.apply(json.loads(frames(1)[0]))
    assert peer.levels() == dictionary_levels([snapshot])


def test_the_best_levels_are_those_of_the_book(peer: BookPeer) -> None:
    for frame in frames(30):
        peer.apply(json.loads(frame))
    bids, asks = peer.levels()
    if not peer.best_method:
        with pytest.raises(NotImplementedError, match=peer.name):
            peer.best()
        return
    best: Any = peer.best()  # as each library prints it
    assert [tuple(map(float, level)) for level in best] == [bids[0], asks[0]]


def test_the_c_order_book_sorts_when_it_is_read_alone() -> None:
    """Why `-best` is measured: many changes without a read cost less than as many with one each."""
    order_book = pytest.importorskip("order_book", reason="order-book is not installed (extra peers)")

    class Counting(int):
        compared = 0

        def __lt__(self, other: int) -> bool:
            Counting.compared += 1
            return int.__lt__(self, other)

        __hash__ = int.__hash__

    book = order_book.OrderBook()
    for price in range(50, 0, -1):
        book.bids[Counting(price)] = 1
    assert Counting.compared == 0
    assert book.bids.index(0) == (50, 1)
    assert Counting.compared > 0


def test_what_is_installed_is_told_apart_from_what_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.peers.book_peer._MODULES", {"one": "json", "two": "no_such_module_here"})
    assert installed_peers(["one", "two"]) == (["one"], ["two"])
