"""The tick size asked of a real HTTP server that answers as each test tells it to."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from lob.errors import InputError
from serve.http_get import MAXIMUM_ANSWER_BYTES
from serve.instrument_cache import InstrumentCache
from serve.instruments import age_text, fetch_instrument, find_instrument


def listing(*symbols: tuple[str, str]) -> dict:
    """The documented answer, cut to the fields that stand in Bybit's own example of it."""
    entries = [
        {
            "symbol": symbol,
            "contractType": "LinearPerpetual",
            "status": "Trading",
            "priceFilter": {"minPrice": tick, "maxPrice": "199999.80", "tickSize": tick},
            "lotSizeFilter": {"qtyStep": "0.001"},
        }
        for symbol, tick in symbols
    ]
    result = {"category": "linear", "list": entries, "nextPageCursor": ""}
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": 1672712495660}


class Answering:
    """What the server answers with, and what it was asked."""

    def __init__(self) -> None:
        self.body: bytes = b""
        self.status = 200
        self.asked: list[str] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v5/public/linear"


@pytest.fixture
def exchange() -> Iterator[Answering]:
    state = Answering()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(state.body)))
            self.end_headers()
            self.wfile.write(state.body)

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        state.port = server.server_port
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


def test_the_tick_size_is_the_one_the_exchange_lists(exchange: Answering, monkeypatch) -> None:
    # A proxy in the environment is not asked about an address of this machine.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    exchange.body = json.dumps(listing(("ETHUSDT", "0.01"), ("BTCUSDT", "0.10"))).encode()
    instrument = fetch_instrument(exchange.url, "linear", "BTCUSDT")
    assert (instrument.symbol, instrument.tick_size) == ("BTCUSDT", "0.10")
    assert exchange.asked == ["/v5/market/instruments-info?category=linear&symbol=BTCUSDT"]


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, json.dumps(listing()).encode(), "it does not list BTCUSDT among its linear instruments"),
        (200, json.dumps(listing(("ETHUSDT", "0.01"))).encode(), "does not list BTCUSDT"),
        (200, b'{"retCode":10001,"retMsg":"symbol invalid","result":{}}', "it answers 10001 symbol invalid"),
        (200, b"<html>", "not the documented one"),
        (200, b'{"retCode":0,"result":{"list":[{"symbol":"BTCUSDT"}]}}', "not the documented one"),
        (200, b"x" * (MAXIMUM_ANSWER_BYTES + 1), "above 1048576 bytes"),
        (404, b"", "it answers HTTP 404"),
        (500, b"oops", "it answers HTTP 500"),
    ],
)
def test_any_other_answer_is_an_error_that_says_what_to_do(exchange, status, body, words) -> None:
    exchange.status, exchange.body = status, body
    with pytest.raises(InputError) as caught:
        fetch_instrument(exchange.url, "linear", "BTCUSDT")
    assert words in str(caught.value)
    assert "the tick size of BTCUSDT is not known" in str(caught.value)
    assert "--tick-size" in str(caught.value)


def test_an_exchange_that_is_not_there_is_an_error_too(exchange: Answering) -> None:
    with pytest.raises(InputError, match="it cannot be reached"):
        fetch_instrument("ws://127.0.0.1:1/v5/public/linear", "linear", "BTCUSDT")


def test_a_category_nobody_serves_is_refused_before_anybody_is_asked(exchange: Answering) -> None:
    with pytest.raises(InputError, match="category: 'option' came, linear, spot, inverse are allowed"):
        fetch_instrument(exchange.url, "option", "BTCUSDT")
    assert exchange.asked == []


def test_the_lot_size_comes_along_in_spots_words_too(exchange: Answering) -> None:
    exchange.body = json.dumps(listing(("BTCUSDT", "0.10"))).encode()
    assert find_instrument(exchange.url, "linear", "BTCUSDT").lot_size == "0.001"
    exchange.body = exchange.body.replace(b"qtyStep", b"basePrecision")
    assert find_instrument(exchange.url, "spot", "BTCUSDT").lot_size == "0.001"


def test_an_exchange_that_does_not_answer_is_taken_at_its_last_word(exchange, tmp_path, caplog) -> None:
    cache = InstrumentCache(tmp_path)
    exchange.body = json.dumps(listing(("BTCUSDT", "0.10"))).encode()
    first = find_instrument(exchange.url, "linear", "BTCUSDT", cache=cache)
    assert caplog.text == ""
    exchange.status = 503
    assert find_instrument(exchange.url, "linear", "BTCUSDT", cache=cache) == first
    assert "it answers HTTP 503" in caplog.text
    assert "using what it said 0 seconds ago: tick size 0.10" in caplog.text
    exchange.status, exchange.body = 200, b"<html>"
    assert find_instrument(exchange.url, "linear", "BTCUSDT", cache=cache) == first
    with pytest.raises(InputError, match="not the documented one"):
        find_instrument(exchange.url, "linear", "BTCUSDT")  # nothing is kept
    # That it does not list the symbol is an answer, and counts.
    exchange.body = json.dumps(listing()).encode()
    with pytest.raises(InputError, match="does not list BTCUSDT"):
        find_instrument(exchange.url, "linear", "BTCUSDT", cache=cache)
    # A new answer takes the place of the old.
    exchange.body = json.dumps(listing(("BTCUSDT", "0.50"))).encode()
    find_instrument(exchange.url, "linear", "BTCUSDT", cache=cache)
    exchange.status = 500
    assert find_instrument(exchange.url, "linear", "BTCUSDT", cache=cache).tick_size == "0.50"


def test_ages_read_as_people_say_them() -> None:
    assert [age_text(s) for s in (5, 90, 7_200, 200_000)] == [
        "5 seconds",
        "1.5 minutes",
        "2.0 hours",
        "2.3 days",
    ]
