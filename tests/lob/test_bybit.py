"""Bybit's frames, as captured and as broken."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lob.bybit import DEPTHS, BybitDecoder
from lob.messages import (
    Acknowledgement,
    BookUpdate,
    Malformed,
    Message,
    Other,
    Pong,
    Trade,
    Trades,
    VenueError,
)

DELTA = (
    b'{"topic":"orderbook.50.BTCUSDT","ts":1789299658933,"type":"delta","data":{"s":"BTCUSDT",'
    b'"b":[["77140.3","0"],["76200","0.002114"]],"a":[["77141.2","0"]],"u":3734359,"seq":2189232166},'
    b'"cts":1789299658878}'
)


def decode(frame: bytes) -> Message:
    return BybitDecoder().decode(frame)


def changed(**fields: object) -> bytes:
    """`DELTA` with fields of the frame or its data set anew, or left out where None."""
    frame = json.loads(DELTA)
    for name, value in fields.items():
        part = frame["data"] if name in frame["data"] else frame
        part[name] = value
        if value is None:
            del part[name]
    return json.dumps(frame).encode()


def test_delta() -> None:
    update = decode(DELTA)
    assert isinstance(update, BookUpdate)
    assert bytes(update.bids) == b'[["77140.3","0"],["76200","0.002114"]]'
    assert bytes(update.asks) == b'[["77141.2","0"]]'
    assert (update.symbol, update.is_snapshot, update.depth, update.continues) == (
        "BTCUSDT",
        False,
        50,
        False,
    )
    assert update.first_update_id == update.update_id == 3734359
    assert update.previous_update_id == -1
    assert update.sequence == 2189232166
    assert (update.exchange_ms, update.gateway_ms) == (1789299658878, 1789299658933)


def test_gateway_time_stands_in_for_a_missing_engine_time() -> None:
    update = decode(changed(cts=None))
    assert isinstance(update, BookUpdate)
    assert update.exchange_ms == update.gateway_ms == 1789299658933


@pytest.mark.parametrize(("kind", "update_id"), [("snapshot", 3734359), ("snapshot", 1), ("delta", 1)])
def test_snapshots_are_named_or_numbered_one(kind: str, update_id: int) -> None:
    update = decode(changed(type=kind, u=update_id))
    assert isinstance(update, BookUpdate)
    assert update.is_snapshot


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_depth(depth: int) -> None:
    update = decode(DELTA.replace(b"orderbook.50", b"orderbook.%d" % depth))
    assert isinstance(update, BookUpdate)
    assert update.depth == depth
    assert update.continues == (depth == 1)


@pytest.mark.parametrize(
    "fields",
    [
        {"topic": "orderbook.51.BTCUSDT"},
        {"topic": "orderbook.50"},
        {"topic": "orderbook.50."},
        {"topic": "orderbook.50.BTCUSDT.x"},
        {"topic": "orderbook..BTCUSDT"},
        {"topic": "orderbook.050.BTCUSDT"},
        {"s": "ETHUSDT"},
        {"s": ""},
        {"s": None},
        {"s": 5},
        {"type": "update"},
        {"type": None},
        {"u": None},
        {"u": -1},
        {"u": "7"},
        {"u": 1.5},
        {"u": 2**63},
        {"u": 10**40},
        {"seq": -5},
        {"b": None},
        {"a": None},
        {"ts": None},
        {"ts": -1},
        {"cts": "now"},
        {"data": []},
        {"data": None},
        {"data": "text"},
    ],
)
def test_book_frames_of_another_shape_are_malformed(fields: dict[str, object]) -> None:
    message = decode(changed(**fields))
    assert isinstance(message, Malformed)
    assert message.reason


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"ping",
        b"\xff\xfe",
        DELTA[:-1],
        DELTA[: len(DELTA) // 2],
        DELTA + b"}",
        DELTA.replace(b'"BTCUSDT"', b'"BTC\xffUSDT"'),
        b'{"topic":"orderbook.50.BTCUSDT","data":' + b"[" * 100_000,
        b"[" * 100_000,
    ],
)
def test_frames_that_are_no_json_are_malformed(frame: bytes) -> None:
    message = decode(frame)
    assert isinstance(message, Malformed)
    assert message.reason


@pytest.mark.parametrize("frame", [b"null", b"[]", b"1", b"{}", b'"orderbook."', b'{"op":"subscribe"}'])
def test_json_of_no_known_shape_is_malformed(frame: bytes) -> None:
    message = decode(frame)
    assert isinstance(message, Malformed)
    assert message.reason


def test_pong_of_either_shape() -> None:
    linear = b'{"success":true,"ret_msg":"pong","conn_id":"c","req_id":"p1","op":"ping"}'
    spot = b'{"op":"pong","args":["1753340040127"],"conn_id":"d"}'
    assert decode(linear) == Pong(request_id="p1", connection_id="c")
    assert decode(spot) == Pong(request_id="", connection_id="d")


def test_refusal_of_something_else() -> None:
    frame = b'{"success":false,"ret_msg":"error:request expected","conn_id":"c","req_id":"","op":""}'
    assert decode(frame) == VenueError(message="error:request expected")


def test_acknowledgement_that_lists_topics() -> None:
    frame = (
        b'{"success":true,"ret_msg":"","conn_id":"c","req_id":"r","op":"subscribe",'
        b'"data":{"failTopics":[],"successTopics":["orderbook.50.BTCUSDT"]}}'
    )
    assert decode(frame) == Acknowledgement("subscribe", True, "", "r", "c")


def test_trades_of_one_message() -> None:
    frame = (
        b'{"topic":"publicTrade.BTCUSDT","ts":1789299670925,"type":"snapshot","data":['
        b'{"i":"21","T":1789299670888,"p":"77140.5","v":"0.000078","S":"Sell","seq":2189232212,"s":"BTCUSDT"},'
        b'{"i":"22","T":1789299670889,"p":"77140.1","v":"0.003812","S":"Buy","seq":2189232213,"s":"BTCUSDT"}]}'
    )
    expected = [
        Trade("BTCUSDT", 1789299670888, "77140.5", "0.000078", -1, "21", 2189232212),
        Trade("BTCUSDT", 1789299670889, "77140.1", "0.003812", 1, "22", 2189232213),
    ]
    assert decode(frame) == Trades("publicTrade.BTCUSDT", 1789299670925, expected)
    other_order = b'{"ts":1789299670925,' + frame.replace(b'"ts":1789299670925,', b"")[1:]
    assert decode(other_order) == decode(frame)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (b'"S":"Sell"', b'"S":"Sold"'),
        (b'"s":"BTCUSDT"', b'"s":"ETHUSDT"'),
        (b'"T":1', b'"T":-1'),
        (b'"p":"7.5"', b'"p":7.5'),
        (b'"i":"21",', b""),
    ],
)
def test_trades_of_another_shape_are_malformed(good: bytes, bad: bytes) -> None:
    frame = (
        b'{"topic":"publicTrade.BTCUSDT","ts":2,"type":"snapshot","data":['
        b'{"i":"21","T":1,"p":"7.5","v":"1","S":"Sell","s":"BTCUSDT"}]}'
    )
    assert isinstance(decode(frame), Trades)
    assert good in frame
    assert isinstance(decode(frame.replace(good, bad)), Malformed)


def test_topics_remembered_are_bounded(bybit_frame: Callable[..., bytes]) -> None:
    decoder = BybitDecoder()
    for number in range(500):
        message = decoder.decode(bybit_frame(3, symbol=f"S{number}"))
        assert isinstance(message, BookUpdate)
        assert message.symbol == f"S{number}"
    assert len(decoder._topics) < 100


@given(st.binary(max_size=80))
def test_any_bytes_have_an_answer(frame: bytes) -> None:
    message = decode(frame)
    assert isinstance(message, Message)
    assert not isinstance(message, BookUpdate)


@given(st.data())
def test_any_damage_has_an_answer(data: st.DataObject) -> None:
    frame = bytearray(DELTA)
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    assert isinstance(decode(bytes(frame)), Message)


def test_captured_connection(data_dir: Path) -> None:
    path = data_dir / "bybit" / "testnet_excerpt_fastmm" / "mixed_topics_excerpt.jsonl"
    messages = [decode(line) for line in path.read_bytes().splitlines()]
    kinds = [type(message) for message in messages]
    assert kinds == [
        Acknowledgement,
        BookUpdate,
        Pong,
        BookUpdate,
        BookUpdate,
        Trades,
        BookUpdate,
        Trades,
        Acknowledgement,
    ]
    assert messages[0] == Acknowledgement("subscribe", True, "subscribe", "sub1", "d967ikkn0ine3iqmjc30-koqj")
    refused = messages[-1]
    assert isinstance(refused, Acknowledgement)
    assert not refused.success
    assert refused.message == "Invalid symbol :[orderbook.50.NOSUCHSYM]"
    depths = [message.depth for message in messages if isinstance(message, BookUpdate)]
    assert depths == [1, 50, 1, 50]


def test_captured_messages_of_many_topics(data_dir: Path) -> None:
    path = data_dir / "bybit" / "spot_messages_gocryptotrader" / "push_messages.jsonl"
    samples = {line["name"]: line["raw"].encode() for line in map(json.loads, path.read_text().splitlines())}
    messages = {name: decode(raw) for name, raw in samples.items()}
    snapshot, update = messages.pop("Orderbook Snapshot"), messages.pop("Orderbook Update")
    assert isinstance(snapshot, BookUpdate)
    assert isinstance(update, BookUpdate)
    assert snapshot.is_snapshot
    assert not update.is_snapshot
    sold = Trade("BTCUSDT", 1690720953111, "3.6279", "1.3637", -1, "2200000000067341890")
    assert messages.pop("Public Trade") == Trades("publicTrade.BTCUSDT", 1690720953113, [sold])
    assert isinstance(messages.pop("pong"), Pong)
    assert len(messages) == 6
    assert all(isinstance(message, Other) for message in messages.values())
