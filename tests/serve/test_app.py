"""The HTTP routes on a real socket."""

import httpx
import msgspec
import pytest

from inference.prediction import Prediction
from lob.sync import SymbolState
from serve.responses import DOCUMENTED, BookView, Health, Problem, Readiness

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
