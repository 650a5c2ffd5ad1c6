"""The timing stream, held against a dictionary book kept from its text."""

import json
from itertools import islice
from typing import Any

import pytest

from bench.delta_stream import DeltaStream, DeltaStreamConfig
from lob.errors import InputError

Book = dict[str, dict[str, str]]


def frames(count: int, config: DeltaStreamConfig) -> list[dict[str, Any]]:
    return [json.loads(frame) for _, frame in islice(DeltaStream(config), count)]


def best_ten(side: dict[str, str]) -> list[tuple[str, str]]:
    return sorted(side.items(), key=lambda level: -float(level[0]))[:10]


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (DeltaStreamConfig(seed=1), 5000),
        (DeltaStreamConfig(seed=2, depth=200), 5000),
        (DeltaStreamConfig(seed=3, depth=200, changes_a_side=10), 3000),
        (DeltaStreamConfig(seed=4, depth=1000, changes_a_side=30), 1500),
        (DeltaStreamConfig(seed=5, changes_a_side=1), 3000),
        (DeltaStreamConfig(seed=6, changes_a_side=25), 3000),  # the most a book of 50 levels may have
    ],
)
def test_every_delta_changes_as_many_levels_a_side_of_a_sound_book(
    config: DeltaStreamConfig, count: int
) -> None:
    snapshot, *deltas = frames(count, config)
    assert snapshot["type"] == "snapshot"
    book: Book = {side: dict(snapshot["data"][side]) for side in "ba"}
    kinds = {"insert": 0, "delete": 0, "resize": 0}
    touches = set()
    update_id, exchange_ms = snapshot["data"]["u"], snapshot["cts"]
    for delta in deltas:
        assert delta["type"] == "delta"
        assert delta["topic"] == f"orderbook.{config.depth}.BTCUSDT"
        assert delta["data"]["u"] == update_id + 1
        assert delta["cts"] > exchange_ms
        assert delta["ts"] >= delta["cts"]
        update_id, exchange_ms = delta["data"]["u"], delta["cts"]
        bids_before = best_ten(book["b"])
        for side in "ba":
            changes = delta["data"][side]
            assert len({price for price, _ in changes}) == len(changes) == config.changes_a_side
            for price, size in changes:
                assert book[side].get(price, "0") != size
                kinds["delete" if size == "0" else "resize" if price in book[side] else "insert"] += 1
                if size == "0":
                    del book[side][price]
                else:
                    book[side][price] = size
            assert len(book[side]) == config.depth
        assert best_ten(book["b"]) != bids_before
        bid, ask = max(map(float, book["b"])), min(map(float, book["a"]))
        assert bid < ask
        touches.add((bid, ask))
    if config.changes_a_side == 1:
        assert kinds == {"insert": 0, "delete": 0, "resize": 2 * len(deltas)}
        return
    assert min(kinds.values()) > 1000
    assert len(touches) > 100


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"depth": 1}, "depth: came 1; allowed: 50, 200, 500, 1000"),
        ({"depth": 60}, "depth: came 60; allowed: 50, 200, 500, 1000"),
        ({"changes_a_side": 0}, "changes_a_side: came 0; allowed: 1 to 25, half of the depth 50"),
        ({"changes_a_side": 26}, "changes_a_side: came 26; allowed: 1 to 25, half of the depth 50"),
    ],
)
def test_what_no_stream_can_be_made_of_is_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        DeltaStreamConfig(**setting)


def test_prices_and_sizes_are_printed_as_the_exchange_does() -> None:
    for frame in frames(200, DeltaStreamConfig()):
        for side in "ba":
            for price, size in frame["data"][side]:
                units, cents = price.split(".")
                assert int(units) > 0
                assert len(cents) == 2
                assert cents.endswith("0")  # a tick of 0.10
                assert size == "0" or len(size.split(".")[1]) == 3


def test_a_seed_is_a_stream() -> None:
    def text(seed: int) -> list[tuple[int, bytes]]:
        return list(islice(DeltaStream(DeltaStreamConfig(seed=seed)), 300))

    assert text(5) == text(5)
    assert text(5) != text(6)


def test_iterating_again_starts_from_the_snapshot() -> None:
    stream = DeltaStream(DeltaStreamConfig())
    first = list(islice(stream, 10))
    assert list(islice(stream, 10)) == first
    assert b'"type":"snapshot"' in first[0][1]
    assert [receive_ns for receive_ns, _ in first] == sorted({receive_ns for receive_ns, _ in first})
