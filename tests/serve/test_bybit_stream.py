import json

import pytest

from lob.errors import InputError
from serve.bybit_stream import (
    BookTopic,
    category_of,
    check_stream_url,
    is_pushed,
    public_stream_url,
    request_frame,
    rest_base_url,
)


def test_public_addresses_are_encrypted_and_name_their_category() -> None:
    for category in ("linear", "spot", "inverse"):
        url = public_stream_url(category)
        assert url == f"wss://stream.bybit.com/v5/public/{category}"
        assert category_of(url) == category
    with pytest.raises(InputError, match="category: 'option' came, linear, spot, inverse are allowed"):
        public_stream_url("option")


@pytest.mark.parametrize(
    "url", ["", "http://host/", "ws://", "stream.bybit.com", "ws://host:port", "ws://h:0/"]
)
def test_an_address_that_is_no_websocket_address_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="is allowed"):
        check_stream_url(url)


@pytest.mark.parametrize(
    ("stream", "rest"),
    [
        ("wss://stream.bybit.com/v5/public/linear", "https://api.bybit.com"),
        ("wss://stream-testnet.bybit.com/v5/public/spot", "https://api-testnet.bybit.com"),
        ("wss://stream.bybit.kz/v5/public/spot", "https://api.bybit.kz"),
        ("ws://127.0.0.1:9001/v5/public/linear", "http://127.0.0.1:9001"),
        ("ws://[::1]:9001/", "http://[::1]:9001"),
        ("wss://stream.example.org/v5/public/linear", "https://stream.example.org"),
    ],
)
def test_instruments_are_asked_where_the_exchange_serves_them(stream: str, rest: str) -> None:
    assert rest_base_url(stream) == rest


def test_category_of_an_address_that_names_none() -> None:
    assert category_of("ws://127.0.0.1:9001") is None
    assert category_of("ws://127.0.0.1:9001/v5/public/inverse/") == "inverse"


def test_topic_and_requests_read_as_the_exchange_documents_them() -> None:
    topic = BookTopic(symbol="BTCUSDT", depth=50)
    assert topic.name == "orderbook.50.BTCUSDT"
    assert json.loads(request_frame("subscribe", topic, "7")) == {
        "op": "subscribe",
        "req_id": "7",
        "args": ["orderbook.50.BTCUSDT"],
    }


@pytest.mark.parametrize("symbol", ["", "BTC USDT", "BTC/USDT", "BTCUSDT\n", "ÄÖÜ", "A" * 41, "-"])
def test_a_symbol_no_exchange_would_list_is_refused(symbol: str) -> None:
    with pytest.raises(InputError, match="symbol: "):
        BookTopic(symbol=symbol, depth=50)


def test_a_depth_the_exchange_does_not_push_is_refused() -> None:
    with pytest.raises(InputError, match="depth: 25 came, 1, 50, 200, 500, 1000 are allowed"):
        BookTopic(symbol="BTCUSDT", depth=25)


def test_replies_are_told_from_pushes() -> None:
    assert is_pushed(b'{"topic":"orderbook.50.BTCUSDT","ts":1}')
    assert not is_pushed(b'{"success":true,"ret_msg":"","op":"subscribe"}')
