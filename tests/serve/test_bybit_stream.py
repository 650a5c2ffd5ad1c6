import json

import pytest

from lob.errors import InputError
from serve.bybit_stream import (
    BookTopic,
    BybitStream,
    TradeTopic,
    category_of,
    check_stream_url,
    public_stream_url,
    rest_base_url,
)
from serve.venue_stream import Reply, Topic


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
    assert json.loads(BybitStream().request("subscribe", [topic], "7")) == {
        "op": "subscribe",
        "req_id": "7",
        "args": ["orderbook.50.BTCUSDT"],
    }


def test_one_request_names_as_many_topics_as_the_category_allows() -> None:
    topics: list[Topic] = [BookTopic(symbol="BTCUSDT", depth=50), TradeTopic(symbol="BTCUSDT")]
    request = json.loads(BybitStream().request("subscribe", topics, "8"))
    assert request["args"] == ["orderbook.50.BTCUSDT", "publicTrade.BTCUSDT"]
    assert BybitStream("spot").topics_a_request == 10  # as documented
    longest = BookTopic(symbol="A" * 40, depth=1000).name
    for category in ("linear", "inverse"):
        topics_a_request = BybitStream(category).topics_a_request
        assert topics_a_request > 10
        assert topics_a_request * len(longest) < 21_000


@pytest.mark.parametrize("symbol", ["", "BTC USDT", "BTC/USDT", "BTCUSDT\n", "ÄÖÜ", "A" * 41, "-"])
def test_a_symbol_no_exchange_would_list_is_refused(symbol: str) -> None:
    with pytest.raises(InputError, match="symbol: "):
        BookTopic(symbol=symbol, depth=50)


def test_a_depth_the_exchange_does_not_push_is_refused() -> None:
    with pytest.raises(InputError, match="depth: 25 came, 1, 50, 200, 500, 1000 and full are allowed"):
        BookTopic(symbol="BTCUSDT", depth=25)


def test_trades_have_a_topic_of_their_own() -> None:
    assert TradeTopic(symbol="BTCUSDT").name == "publicTrade.BTCUSDT"
    with pytest.raises(InputError, match="symbol: "):
        TradeTopic(symbol="BTC USDT")


@pytest.mark.parametrize(
    ("frame", "topic"),
    [
        (b'{"topic":"orderbook.50.BTCUSDT","ts":1}', "orderbook.50.BTCUSDT"),
        (b'{ "ts": 1, "topic": "orderbook.50.BTC\\u0055SDT" }', "orderbook.50.BTCUSDT"),
        (b'{"success":true,"ret_msg":"","op":"subscribe"}', ""),
        (b'{"topic":5}', ""),
        (b"[]", ""),
        (b"\xff", ""),
        (b"[" * 5_000, ""),
    ],
)
def test_the_topic_of_any_frame(frame: bytes, topic: str) -> None:
    assert BybitStream().topic_of(frame) == topic


def test_answers_to_subscriptions_are_told_from_all_else() -> None:
    stream = BybitStream()
    done = b'{"success":true,"ret_msg":"","conn_id":"c","req_id":"s1","op":"subscribe"}'
    refused = b'{"success":false,"ret_msg":"no","conn_id":"c","op":"subscribe"}'
    assert stream.reply_in(done) == Reply(request_id="s1", success=True)
    assert stream.reply_in(refused) == Reply(request_id="", success=False, message="no")
    for other in (done.replace(b"subscribe", b"unsubscribe"), b'{"op":"pong"}', b"{}", b"", b'{"topic":"x"}'):
        assert stream.reply_in(other) is None
