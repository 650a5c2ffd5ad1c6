"""The HTTP routes on a real socket."""

import asyncio

import httpx
import msgspec
import pytest
from prometheus_client import CONTENT_TYPE_LATEST

from inference.prediction import Prediction
from lob.sync import SymbolState
from serve.responses import DOCUMENTED, BookView, Health, Problem, Readiness
from tests.serve.waiting import until

pytestmark = pytest.mark.anyio


async def test_a_prediction_is_answered_while_live_and_refused_with_the_reason_otherwise(running_app) -> None:
    async with running_app() as app, httpx.AsyncClient(base_url=app.http) as client:
        answer = await client.get("/v1/predictions/BTCUSDT")
        assert answer.status_code == 503
        problem = msgspec.json.decode(answer.content, type=Problem)
        assert problem.detail == "BTCUSDT is connecting: the service has just started"
        app.go_live()
        assert (await client.get("/v1/predictions/BTCUSDT")).status_code == 503  # none was published
        app.publish(9)
        answer = await client.get("/v1/predictions/BTCUSDT")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        prediction = msgspec.json.decode(answer.content, type=Prediction)
        assert prediction.update_id == 9
        assert prediction.latency_us > 0
        app.hub.publish_state("BTCUSDT", SymbolState.STALE, "gap in the book's sequence")
        answer = await client.get("/v1/predictions/BTCUSDT")
        assert answer.status_code == 503
        problem = msgspec.json.decode(answer.content, type=Problem)
        assert (problem.state, problem.reason) == ("stale", "gap in the book's sequence")


async def test_an_unknown_symbol_is_answered_with_the_known_ones(running_app) -> None:
    async with (
        running_app(symbols=("BTCUSDT", "ETHUSDT")) as app,
        httpx.AsyncClient(base_url=app.http) as client,
    ):
        for route in ("/v1/predictions/DOGE", "/v1/book/DOGE"):
            answer = await client.get(route)
            assert answer.status_code == 404
            assert answer.json() == {"detail": "symbol: 'DOGE' came, 'BTCUSDT', 'ETHUSDT' is served"}
        assert (await client.get("/v1/predictions/" + "A" * 65)).status_code == 422
        assert (await client.get("/v1/nothing")).status_code == 404


async def test_the_book_is_shown_while_live_alone(running_app) -> None:
    async with running_app() as app, httpx.AsyncClient(base_url=app.http) as client:
        assert (await client.get("/v1/book/BTCUSDT")).status_code == 503
        app.go_live()
        answer = await client.get("/v1/book/BTCUSDT", params={"levels": 1})
        book = msgspec.json.decode(answer.content, type=BookView)
        assert (book.bids[0].price, book.asks[0].size) == (100.0, 2.0)
        assert (await client.get("/v1/book/BTCUSDT", params={"levels": 0})).status_code == 422


async def test_health_answers_always_and_readiness_when_every_symbol_is_live(running_app) -> None:
    async with (
        running_app(symbols=("BTCUSDT", "ETHUSDT")) as app,
        httpx.AsyncClient(base_url=app.http) as client,
    ):
        health = msgspec.json.decode((await client.get("/healthz")).content, type=Health)
        assert health.status == "ok"
        assert health.uptime_s >= 0
        app.go_live("BTCUSDT")
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        readiness = msgspec.json.decode(answer.content, type=Readiness)
        assert readiness.reason == "ETHUSDT is connecting: the service has just started"
        assert [status.state for status in readiness.symbols] == ["live", "connecting"]
        app.go_live("ETHUSDT")
        answer = await client.get("/readyz")
        assert answer.status_code == 200
        assert answer.json()["ready"] is True


async def test_where_there_are_hundreds_of_symbols_few_are_named_and_all_are_waited_for(running_app) -> None:
    symbols = tuple(f"COIN{number}USDT" for number in range(200))
    async with running_app(symbols=symbols) as app, httpx.AsyncClient(base_url=app.http) as client:
        detail = (await client.get("/v1/book/DOGE")).json()["detail"]
        assert detail.startswith("symbol: 'DOGE' came, 'COIN0USDT', 'COIN1USDT', ")
        assert detail.endswith(", 'COIN9USDT' and 190 more is served")
        for symbol in symbols[:-1]:
            app.go_live(symbol)
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        readiness = msgspec.json.decode(answer.content, type=Readiness)
        assert readiness.reason == "COIN199USDT is connecting: the service has just started"
        assert [status.symbol for status in readiness.symbols] == list(symbols)
        app.go_live(symbols[-1])
        assert (await client.get("/readyz")).json()["ready"] is True


async def test_metrics_come_whole_and_with_their_length_in_however_many_pieces(running_app) -> None:
    pieces = [b"a 1.0\n", b"b" * 300_000, b" 2.0\n"]
    async with running_app(metrics=pieces) as app, httpx.AsyncClient(base_url=app.http) as client:
        for _ in range(2):  # on one connection
            answer = await client.get("/metrics")
            assert answer.content == b"".join(pieces)
            assert answer.headers["content-type"] == CONTENT_TYPE_LATEST
            assert int(answer.headers["content-length"]) == len(answer.content)
            assert "transfer-encoding" not in answer.headers


async def test_a_reader_that_takes_no_metrics_or_leaves_holds_up_nobody(running_app) -> None:
    async with (
        running_app(metrics=[b"x" * 65_536] * 100) as app,
        httpx.AsyncClient(base_url=app.http) as client,
    ):
        _, stuck = await asyncio.open_connection(app.host, app.port, limit=1_024)
        _, leaving = await asyncio.open_connection(app.host, app.port, limit=1_024)
        for writer in (stuck, leaving):
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")
        assert len((await client.get("/metrics")).content) == 6_553_600
        leaving.transport.abort()
        await until(lambda: app.server.standing_connections == 2)
        assert (await client.get("/healthz")).status_code == 200
        stuck.transport.abort()


async def test_a_probe_by_head_gets_the_status_without_the_body(running_app) -> None:
    async with running_app() as app, httpx.AsyncClient(base_url=app.http) as client:
        for path, status in (("/healthz", 200), ("/readyz", 503)):
            answer = await client.head(path)
            assert (answer.status_code, answer.content) == (status, b"")
            assert int(answer.headers["content-length"]) > 0
        app.go_live()
        assert (await client.head("/readyz")).status_code == 200


async def test_every_answer_is_described_by_the_schema_the_structs_generate(running_app) -> None:
    async with running_app() as app, httpx.AsyncClient(base_url=app.http) as client:
        document = (await client.get("/openapi.json")).json()
        schemas = document["components"]["schemas"]
        assert {kind.__name__ for kind in DOCUMENTED} <= set(schemas)
        assert set(schemas["Prediction"]["properties"]) == set(Prediction.__struct_fields__)
        references = 0
        for path, operations in document["paths"].items():
            for status, answer in operations["get"]["responses"].items():
                schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
                if "$ref" in schema:
                    references += 1
                    assert schema["$ref"].rpartition("/")[2] in schemas, (path, status)
        assert references >= 12
        assert "/v1/stream" in document["info"]["description"]
        assert (await client.get("/docs")).status_code == 200
