"""The whole service on real sockets: an exchange the test scripts, the service itself, real clients."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidMessage

from inference.pipeline import Pipeline
from inference.registry import load_model
from lob.errors import ArtifactError, InputError
from lob.instrument import Instrument
from serve.feed_connection import RefusedSubscriptionError
from serve.feed_policies import StallPolicy
from serve.keep_warm import KeepWarmPolicy
from serve.listener import listen
from serve.reconnect import ReconnectPolicy
from serve.service import Service, ServiceConfig
from serve.stream import StreamLimits
from tests.serve.waiting import until

pytestmark = pytest.mark.anyio
TOPIC = "prediction.BTCUSDT"


def configure(models_dir: Path, url: str = "ws://127.0.0.1:1/v5/public/linear", **options) -> ServiceConfig:
    settings: dict[str, Any] = {
        "symbols": ("BTCUSDT",),
        "url": url,
        "category": "linear",
        "model": "tiny",
        "models_dir": models_dir,
        "tick_sizes": {"BTCUSDT": "0.10"},
        "port": 0,
        "reconnect": ReconnectPolicy(initial_s=0.02, factor=1, cap_s=0.02),
    }
    return ServiceConfig(**(settings | options))


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[tuple[str, str]]:
    """Runs a service; answers its HTTP and stream addresses."""
    task = asyncio.create_task(service.run())
    host, port = service.address
    await until(lambda: service._server.started or task.done())
    try:
        yield f"http://{host}:{port}", f"ws://{host}:{port}/v1/stream"
    finally:
        service.stop()
        await task


async def subscribe(client) -> dict:
    await client.send(json.dumps({"op": "subscribe", "args": [TOPIC]}))
    assert json.loads(await client.recv())["success"]
    return json.loads(await client.recv())


async def read_until(client, condition) -> list[dict]:
    """Reads pushes up to the first that fulfils a condition, which is the last one answered."""
    messages: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while not messages or not condition(messages[-1]):
            messages.append(json.loads(await client.recv()))
    return messages


def state_is(name: str):
    return lambda message: message["type"] == "state" and message["data"]["state"] == name


def replayed(models_dir: Path, frames: list[bytes]) -> dict[int, list]:
    """Probabilities by update of the same frames taken straight through the pipeline."""
    pipeline = Pipeline.create(
        load_model("tiny", models_dir), Instrument(symbol="BTCUSDT", tick_size="0.10"), depth=50
    )
    pipeline.on_connected()
    made = (pipeline.on_frame(frame, 1) for frame in frames)
    return {p.update_id: [(h.horizon, h.direction, h.probabilities) for h in p.horizons] for p in made if p}


@pytest.mark.parametrize("keep_warm", [KeepWarmPolicy(), KeepWarmPolicy(every_ms=0.1)], ids=["off", "on"])
async def test_what_subscribers_get_is_what_the_pipeline_says_of_the_same_frames(
    models_dir, market_frames, scripted_exchange, keep_warm
) -> None:
    expected = replayed(models_dir, market_frames)
    assert len(expected) > 300
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        service = Service(configure(models_dir, exchange.url, keep_warm=keep_warm))
        async with running(service) as (http, stream), connect(stream, close_timeout=0.2) as client:
            if keep_warm.every_ms is not None:
                await until(lambda: service.warm_keeper.steps > 0)
            first = await subscribe(client)
            assert first["data"]["state"] in ("connecting", "waiting_snapshot")
            await until(lambda: exchange.operations() == ["subscribe"])
            playing = asyncio.create_task(exchange.play(market_frames))
            last_update = max(expected)
            messages = await read_until(
                client, lambda m: m["type"] == "prediction" and m["data"]["update_id"] == last_update
            )
            await playing
            predictions = [m["data"] for m in messages if m["type"] == "prediction"]
            assert not any(m.get("missed") for m in messages)
            received = {
                p["update_id"]: [(h["horizon"], h["direction"], h["probabilities"]) for h in p["horizons"]]
                for p in predictions
            }
            assert received == expected  # bit for bit: JSON floats round-trip
            states = [m["data"]["state"] for m in messages if m["type"] == "state"]
            assert states[-2:] == ["warming", "live"]
            assert messages.index(next(m for m in messages if m["type"] == "prediction")) >= len(states)
            assert all(p["receive_ns"] < p["emit_ns"] for p in predictions)
            async with httpx.AsyncClient(base_url=http) as web:
                latest = (await web.get("/v1/predictions/BTCUSDT")).json()
                assert latest == predictions[-1]
                book = (await web.get("/v1/book/BTCUSDT", params={"levels": 3})).json()
                assert book["update_id"] == last_update
                assert len(book["bids"]) == len(book["asks"]) == 3
                assert latest["mid"] == (book["bids"][0][0] + book["asks"][0][0]) / 2
                assert (await web.get("/readyz")).status_code == 200
                (model,) = (m for m in (await web.get("/v1/models")).json()["models"] if m["symbols"])
                assert (model["name"], model["symbols"]) == ("tiny", ["BTCUSDT"])
                assert model["engine"] == service.engine_name == latest["engine"]
                assert model["precision"] == latest["precision"] == "float32"
                assert model["precisions"]["ort-step"] == ["float32"]
                metrics = (await web.get("/metrics")).text
            for line in (
                f'mambalob_predictions_total{{symbol="BTCUSDT"}} {len(predictions)}.0',
                f'mambalob_tick_latency_seconds_count{{symbol="BTCUSDT"}} {len(predictions)}.0',
                'mambalob_symbol_state{state="live",symbol="BTCUSDT"} 1.0',
                'precision="float32"',
                'mambalob_frames_total{status="snapshot",symbol="BTCUSDT"} 1.0',
                'mambalob_gaps_total{symbol="BTCUSDT"} 0.0',
                "mambalob_stream_clients 1.0",
                "mambalob_stream_missed_total 0.0",
            ):
                assert line in metrics, line
            assert "process_resident_memory_bytes" in metrics


async def test_a_gap_is_told_answered_by_a_resync_and_nothing_is_published_between(
    models_dir, market_frames, scripted_exchange
) -> None:
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        service = Service(configure(models_dir, exchange.url))
        async with running(service) as (http, stream), connect(stream, close_timeout=0.2) as client:
            await subscribe(client)
            await until(lambda: len(exchange.requests) == 1)
            await exchange.play(market_frames[:100])
            await read_until(client, state_is("live"))
            await exchange.play(market_frames[101:200])  # one frame is lost
            await until(lambda: exchange.operations() == ["subscribe", "unsubscribe", "subscribe"])
            messages = await read_until(client, state_is("stale"))
            assert messages[-1]["data"]["reason"] == "gap in the book's sequence"
            lost = json.loads(market_frames[100])["data"]["u"]
            assert max(m["data"]["update_id"] for m in messages if m["type"] == "prediction") < lost
            async with httpx.AsyncClient(base_url=http) as web:
                answer = await web.get("/v1/predictions/BTCUSDT")
                assert answer.status_code == 503
                assert answer.json()["reason"] == "gap in the book's sequence"
                assert (await web.get("/readyz")).status_code == 503
            await exchange.play(market_frames)  # a new snapshot, then changes to it
            messages = await read_until(client, lambda m: m["type"] == "prediction")
            assert [m["data"].get("state") for m in messages] == ["warming", "live", None]
            assert service.feed.counters.resyncs == 1


async def test_a_silent_feed_is_stale_until_a_new_snapshot_comes(
    models_dir, market_frames, scripted_exchange
) -> None:
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        service = Service(configure(models_dir, exchange.url, stall=StallPolicy(after_ms=600)))
        async with running(service) as (_, stream), connect(stream, close_timeout=0.2) as client:
            await subscribe(client)
            await until(lambda: len(exchange.requests) == 1)
            await exchange.play(market_frames[:100])
            await read_until(client, state_is("live"))
            messages = await read_until(client, state_is("stale"))
            assert messages[-1]["data"]["reason"] == "feed stalled: no book message for 600 ms"
            await until(lambda: exchange.operations()[-2:] == ["unsubscribe", "subscribe"])
            await exchange.play(market_frames[:60])
            await read_until(client, state_is("live"))


async def test_a_lost_connection_is_told_and_live_comes_back(
    models_dir, market_frames, scripted_exchange
) -> None:
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        service = Service(configure(models_dir, exchange.url))
        async with running(service) as (_, stream), connect(stream, close_timeout=0.2) as client:
            await subscribe(client)

            async def live_until_the_connection_is_lost(connections: int) -> None:
                await until(lambda: len(exchange.requests) == connections)
                await exchange.play(market_frames[:100])
                await read_until(client, state_is("live"))
                exchange.connections[-1].transport.abort()
                messages = await read_until(client, state_is("connecting"))
                assert messages[-1]["data"]["reason"].startswith("connection lost")

            await live_until_the_connection_is_lost(1)
            await live_until_the_connection_is_lost(2)


@pytest.mark.parametrize(
    "spoilt",
    [
        b'{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1,"data":{"s":"BTCUSDT","b":[["1","-1"]],"a":[],'
        b'"u":%d,"seq":1},"cts":1}',
        b'{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1,"data":{"s":"BTCUSDT","b":[["0.05","1"]],"a":[],'
        b'"u":%d,"seq":1},"cts":1}',
        b'{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1,"data":{"s":"BTCUSDT","b":[["x","1"]],"a":[],'
        b'"u":%d,"seq":1},"cts":1}',
        b'{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1,"data":{"s":"BTCUSDT","b":[["99999999","1"]],'
        b'"a":[],"u":%d,"seq":1},"cts":1}',
    ],
    ids=["negative size", "off the grid", "not a number", "crossed"],
)
async def test_no_prediction_leaves_a_doubtful_book(
    models_dir, market_frames, scripted_exchange, spoilt
) -> None:
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        service = Service(configure(models_dir, exchange.url))
        async with running(service) as (_, stream), connect(stream, close_timeout=0.2) as client:
            await subscribe(client)
            await until(lambda: len(exchange.requests) == 1)
            await exchange.play(market_frames[:100])
            await read_until(client, state_is("live"))
            next_update = json.loads(market_frames[100])["data"]["u"]
            await exchange.play([spoilt % next_update])
            await exchange.play(market_frames[101:150])
            await until(lambda: len(exchange.requests) == 3)
            messages = await read_until(client, state_is("stale"))
            updates = [m["data"]["update_id"] for m in messages if m["type"] == "prediction"]
            assert all(update < next_update for update in updates)
            # Nothing follows until the snapshot that was asked for has come.
            await exchange.play(market_frames)
            messages = await read_until(client, lambda m: m["type"] == "prediction")
            assert [m["data"].get("state") for m in messages] == ["warming", "live", None]


async def test_frames_that_are_no_book_are_counted_and_change_nothing(
    models_dir, market_frames, scripted_exchange
) -> None:
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        service = Service(configure(models_dir, exchange.url))
        async with running(service) as (_, stream), connect(stream, close_timeout=0.2) as client:
            await subscribe(client)
            await until(lambda: len(exchange.requests) == 1)
            await exchange.play(market_frames[:100])
            await read_until(client, state_is("live"))
            await exchange.play([b"no JSON", b"[]", b'{"topic":"publicTrade.BTCUSDT","data":[]}'])
            await exchange.play([market_frames[0].replace(b"BTCUSDT", b"ETHUSDT")])
            await exchange.play(market_frames[100:])
            last_update = json.loads(market_frames[-1])["data"]["u"]
            await until(lambda: service.symbols["BTCUSDT"].pipeline.rows.update_id == last_update)
            assert service.hub.topic_of("BTCUSDT").live
            counters = service.symbols["BTCUSDT"].pipeline.counters
            assert (counters["not_json"], counters["other_stream"]) == (2, 0)
            assert service.feed.counters.unknown_topics == 2  # nobody takes trades, nor ETHUSDT
            assert service.feed.counters.resyncs == 0


async def test_stopping_tells_subscribers_and_the_exchange(
    models_dir, market_frames, scripted_exchange
) -> None:
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        # A client that reads and answers is waited for by none of the limits.
        limits = StreamLimits(send_timeout_s=86_400.0, close_timeout_s=86_400.0)
        service = Service(configure(models_dir, exchange.url, limits=limits))
        async with running(service) as (_, stream), connect(stream, close_timeout=0.2) as client:
            await subscribe(client)
            await until(lambda: len(exchange.requests) == 1)
            await exchange.play(market_frames[:100])
            await read_until(client, state_is("live"))
            service.stop()
            messages = [json.loads(text) async for text in client]
            assert messages[-1]["data"] == {"state": "stale", "reason": "the service is stopping"}
            assert (client.close_code, client.close_reason) == (1001, "the service is stopping")
            await until(lambda: exchange.connections[0].close_code is not None)
            assert exchange.connections[0].close_code == 1001


async def test_connections_cut_off_for_the_cap_are_in_the_metrics(models_dir, monkeypatch) -> None:
    monkeypatch.setattr("serve.service.PLAIN_CONNECTIONS", 1)
    service = Service(configure(models_dir, limits=StreamLimits(connections=2)))
    async with running(service) as (http, stream), httpx.AsyncClient(base_url=http) as web:
        async with connect(stream), connect(stream):
            assert "mambalob_http_connections 3.0" in (await web.get("/metrics")).text
            for _ in range(2):
                with pytest.raises((OSError, InvalidMessage)):
                    await connect(stream)
            metrics = (await web.get("/metrics")).text
        for line in (
            "mambalob_http_connections 3.0",
            'mambalob_http_cut_off_total{reason="full"} 2.0',
            'mambalob_http_cut_off_total{reason="late"} 0.0',
        ):
            assert line in metrics, line


async def test_a_symbol_the_exchange_refuses_ends_the_service_with_its_words(
    models_dir, scripted_exchange
) -> None:
    async with scripted_exchange() as exchange:
        exchange.acknowledge = lambda request: {
            "success": False,
            "ret_msg": "Invalid symbol :[orderbook.50.BTCUSDT]",
            "op": "subscribe",
        }
        service = Service(configure(models_dir, exchange.url))
        with pytest.raises(RefusedSubscriptionError, match="Invalid symbol"):
            await asyncio.wait_for(service.run(), 60)


def test_a_number_format_the_model_has_not_is_refused_before_the_exchange_is_asked(models_dir) -> None:
    config = configure(models_dir, tick_sizes={}, engine="ort-step", precision="bfloat16")
    with pytest.raises(InputError, match=r"precision: 'bfloat16' came .* model tiny allows"):
        Service(config)  # nobody answers at the exchange's address, which would be an error of its own


def test_a_port_in_use_an_unknown_model_and_a_bad_engine_are_clear_errors(models_dir) -> None:
    taken = listen("127.0.0.1", 0)
    try:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"cannot listen on 127.0.0.1:{port}: Address already in use"):
            Service(configure(models_dir, port=port))
    finally:
        taken.close()
    with pytest.raises(ArtifactError, match=r"model: 'huge' came, known in .*tiny"):
        Service(configure(models_dir, model="huge"))
    with pytest.raises(InputError, match="engine: 'quantum' came"):
        Service(configure(models_dir, engine="quantum"))
    with pytest.raises(InputError, match=r"the tick size of BTCUSDT is not known: .* cannot be reached"):
        Service(configure(models_dir, tick_sizes={}))
    with pytest.raises(InputError, match="tick_size: 'x'"):
        Service(configure(models_dir, tick_sizes={"BTCUSDT": "x"}))
    with pytest.raises(InputError, match=r"host: 'no.such.host.invalid' came"):
        Service(configure(models_dir, host="no.such.host.invalid"))
