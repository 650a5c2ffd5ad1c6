"""Several symbols in one service, on real sockets: what befalls one is not seen in another."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import click
import httpx
import msgspec
import pytest
from click.testing import CliRunner
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from inference.engines import fused
from inference.fused import loaded_model
from inference.fused.loaded_model import LoadedModel
from inference.pipeline import Pipeline
from inference.registry import load_model
from lob.errors import InputError
from lob.instrument import Instrument
from lob.market import MarketConfiguration, SimulatedMarket
from lob.sync import SymbolState
from serve.commands.serve import command
from serve.feed_policies import ResyncPolicy, StallPolicy
from serve.publisher_batch import BatchPolicy
from serve.reconnect import ReconnectPolicy
from serve.service import Service, ServiceConfig
from serve.turns import Turns
from tests.serve.waiting import until

pytestmark = pytest.mark.anyio


def configure(models_dir: Path, url: str = "ws://127.0.0.1:1/v5/public/linear", **options) -> ServiceConfig:
    settings: dict[str, Any] = {
        "symbols": ("BTCUSDT", "ETHUSDT"),
        "url": url,
        "category": "linear",
        "model": "tiny",
        "models_dir": models_dir,
        "tick_sizes": {"BTCUSDT": "0.10", "ETHUSDT": "0.10"},
        "port": 0,
        "reconnect": ReconnectPolicy(initial_s=0.02, factor=1, cap_s=0.02),
        "resync": ResyncPolicy(minimum_interval_s=0.1),
    }
    return ServiceConfig(**(settings | options))


def of_ether(frames: list[bytes]) -> list[bytes]:
    return [frame.replace(b"BTCUSDT", b"ETHUSDT") for frame in frames]


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[tuple[httpx.AsyncClient, list[dict]]]:
    """Runs a service; answers a client of its routes, and the list that all its messages come into."""
    task = asyncio.create_task(service.run())
    host, port = service.address
    await until(lambda: service._server.started or task.done())
    messages: list[dict] = []

    async def listen_to_all() -> None:
        topics = [f"prediction.{symbol}" for symbol in service.config.symbols]
        async with connect(f"ws://{host}:{port}/v1/stream", close_timeout=0.2) as client:
            await client.send(json.dumps({"op": "subscribe", "args": topics}))
            async for text in client:
                messages.append(json.loads(text))  # noqa: PERF401 - read by the test while it grows

    listening = asyncio.create_task(listen_to_all())
    await until(lambda: len(messages) > len(service.config.symbols))
    try:
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as web:
            yield web, messages
    finally:
        service.stop()
        await task
        with contextlib.suppress(ConnectionClosed):
            await listening


def of(symbol: str, messages: list[dict], kind: str) -> list[dict]:
    topic = f"prediction.{symbol}"
    return [m["data"] for m in messages if m.get("topic") == topic and m["type"] == kind]


def replayed(models_dir: Path, symbol: str, frames: list[bytes]) -> dict[int, list]:
    pipeline = Pipeline.create(
        load_model("tiny", models_dir), Instrument(symbol=symbol, tick_size="0.10"), depth=50
    )
    pipeline.on_connected()
    made = (pipeline.on_frame(frame, 1) for frame in frames)
    return {p.update_id: [(h.horizon, h.probabilities) for h in p.horizons] for p in made if p}


def received(symbol: str, messages: list[dict]) -> dict[int, list]:
    return {
        p["update_id"]: [(h["horizon"], h["probabilities"]) for h in p["horizons"]]
        for p in of(symbol, messages, "prediction")
    }


@pytest.mark.parametrize("batch", [BatchPolicy(), BatchPolicy(mode="on", least_waiting=1)])
async def test_a_gap_of_one_symbol_is_not_seen_in_another(
    models_dir, market_frames, scripted_exchange, batch: BatchPolicy
) -> None:
    bitcoin, ether = market_frames, of_ether(market_frames)
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        service = Service(configure(models_dir, exchange.url, batch=batch))
        async with running(service) as (web, messages):
            await until(lambda: len(exchange.asked()) == 2)
            readiness = (await web.get("/readyz")).json()
            assert [one["state"] for one in readiness["symbols"]] == ["waiting_snapshot"] * 2
            assert "ETHUSDT is waiting_snapshot" in readiness["reason"]
            pairs = list(zip(bitcoin, ether, strict=True))
            await exchange.play([frame for pair in pairs[:100] for frame in pair])
            await until(lambda: service.hub.topic_of("ETHUSDT").live)
            assert (await web.get("/readyz")).status_code == 200
            # One frame of ETHUSDT is lost; BTCUSDT goes on all the while.
            await exchange.play([bitcoin[100]])
            await exchange.play([frame for pair in pairs[101:200] for frame in pair])
            await until(lambda: len(exchange.asked()) == 4)
            assert exchange.asked()[2:] == [
                ("unsubscribe", "orderbook.50.ETHUSDT"),
                ("subscribe", "orderbook.50.ETHUSDT"),
            ]
            await until(lambda: of("ETHUSDT", messages, "state")[-1]["state"] == "stale")
            readiness = (await web.get("/readyz")).json()
            assert readiness["reason"] == "ETHUSDT is stale: gap in the book's sequence"
            await exchange.play(bitcoin[200:300])
            await exchange.play(ether[:100])  # the snapshot that was asked for, and on from there
            await exchange.play(bitcoin[300:])
            last_update = json.loads(bitcoin[-1])["data"]["u"]
            await until(lambda: last_update in received("BTCUSDT", messages))
            await until(lambda: of("ETHUSDT", messages, "state")[-1]["state"] == "live")
            symbols = (await web.get("/v1/symbols")).json()["symbols"]
            metrics = (await web.get("/metrics")).text
        assert received("BTCUSDT", messages) == replayed(models_dir, "BTCUSDT", bitcoin)  # bit for bit
        lost = json.loads(ether[100])["data"]["u"]
        assert received("ETHUSDT", messages) == {
            update: answer
            for update, answer in replayed(models_dir, "ETHUSDT", ether[:100]).items()
            if update < lost
        }
        states = [state["state"] for state in of("BTCUSDT", messages, "state")]
        assert states[-3:] == ["warming", "live", "stale"]  # the last as the service stops
        assert "stale" not in states[:-1]
        seqs = [m["seq"] for m in messages if m.get("topic") == "prediction.BTCUSDT"]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
        btc, eth = symbols
        assert (btc["symbol"], btc["gaps"], btc["resyncs"], btc["frames"]) == ("BTCUSDT", 0, 0, len(bitcoin))
        assert (eth["symbol"], eth["gaps"], eth["resyncs"], eth["state"]) == ("ETHUSDT", 1, 1, "live")
        assert eth["seconds"]["stale"] > 0
        assert btc["seconds"]["stale"] == 0
        assert btc["trades"] is None
        assert 'mambalob_feed_resyncs_total{symbol="ETHUSDT"} 1.0' in metrics
        assert 'mambalob_feed_resyncs_total{symbol="BTCUSDT"} 0.0' in metrics
        assert "mambalob_feed_connections_total 1.0" in metrics


async def test_a_silent_symbol_is_stale_while_the_connection_lives(
    models_dir, market_frames, scripted_exchange
) -> None:
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        stall = StallPolicy(after_ms=60_000, by_symbol={"ETHUSDT": 300})
        service = Service(configure(models_dir, exchange.url, stall=stall))
        async with running(service) as (_, messages):
            await until(lambda: len(exchange.asked()) == 2)
            await exchange.play(market_frames[:100])
            await exchange.play(of_ether(market_frames[:100]))
            await until(lambda: service.hub.topic_of("ETHUSDT").live)
            await until(lambda: len(exchange.asked()) >= 4)
            await until(lambda: of("ETHUSDT", messages, "state")[-1]["state"] == "stale")
            reason = of("ETHUSDT", messages, "state")[-1]["reason"]
            assert reason == "feed stalled: no book message for 300 ms"
            assert service.hub.topic_of("BTCUSDT").live
            assert len(exchange.connections) == 1
            assert all("ETHUSDT" in topic for _, topic in exchange.asked()[2:])


async def test_trades_come_on_the_same_connection_and_change_no_prediction(
    models_dir, scripted_exchange
) -> None:
    market = SimulatedMarket(MarketConfiguration(seed=5), trades=True)
    sent = []
    for message in market.messages():
        sent.append(message.frame)
        if len(sent) == 1_500:
            break
    books = [frame for frame in sent if b"publicTrade" not in frame]
    trades = [one for frame in sent if b"publicTrade" in frame for one in json.loads(frame)["data"]]
    assert len(trades) > 50
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        options = {"symbols": ("BTCUSDT",), "tick_sizes": {"BTCUSDT": "0.10"}, "trades": True}
        service = Service(configure(models_dir, exchange.url, **options))
        async with running(service) as (web, messages):
            await until(lambda: len(exchange.asked()) == 2)
            topics = [topic for _, topic in exchange.asked()]
            assert topics == ["orderbook.50.BTCUSDT", "publicTrade.BTCUSDT"]
            expected = replayed(models_dir, "BTCUSDT", books)
            await exchange.play(sent)
            await until(lambda: max(expected) in received("BTCUSDT", messages))
            (symbol,) = (await web.get("/v1/symbols")).json()["symbols"]
            metrics = (await web.get("/metrics")).text
        assert received("BTCUSDT", messages) == expected
        assert symbol["trades"]["trades"] == len(trades)
        assert symbol["trades"]["malformed"] == symbol["trades"]["dropped"] == 0
        assert f'mambalob_trades_total{{status="taped",symbol="BTCUSDT"}} {len(trades)}.0' in metrics


async def test_frames_are_taken_in_and_a_page_is_made_once_however_many_ask_for_it_meanwhile(
    models_dir, market_frames, scripted_exchange
) -> None:
    symbols = ("BTCUSDT", *(f"COIN{number}USDT" for number in range(60)))
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        options = {"symbols": symbols, "tick_sizes": dict.fromkeys(symbols, "0.10"), "engine": "ort-step"}
        service = Service(configure(models_dir, exchange.url, **options))
        made = []
        page = service._metrics.page

        async def noted_page(turns: Turns) -> list[bytes]:
            before = service.feed.counters.frames
            text = await page(turns)
            made.append(service.feed.counters.frames - before)
            return text

        service._metrics.page = noted_page  # type: ignore[method-assign]
        task = asyncio.create_task(service.run())
        host, port = service.address
        await until(lambda: len(exchange.asked()) == len(symbols) or task.done())
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=60) as web:

            async def ask() -> list[str]:
                answers = await asyncio.gather(*(web.get("/metrics") for _ in range(5)))
                return [answer.text for answer in answers]

            asking = asyncio.create_task(ask())
            frames = cycle(market_frames)
            while not asking.done():
                await exchange.play([next(frames)])
            texts = await asking
            symbols_answer = (await web.get("/v1/symbols")).json()["symbols"]
            models = (await web.get("/v1/models")).json()["models"]
        service.stop()
        await task
    assert len(made) < 5
    assert max(made) > 10  # frames that were taken in while a page was made
    for text in texts:
        assert 'mambalob_symbol_state{state="waiting_snapshot",symbol="COIN59USDT"} 1.0' in text
        assert text.endswith("\n")
    views = [one.view(service.hub, service.feed) for one in service.symbols.values()]
    assert [set(one) for one in symbols_answer] == [set(msgspec.to_builtins(view)) for view in views]
    assert [one["symbol"] for one in symbols_answer] == list(symbols)
    assert [one["frames"] for one in symbols_answer][1:] == [0] * 60
    assert symbols_answer[0]["frames"] > 0
    assert models[0]["symbols"] == list(symbols)


def test_a_hundred_symbols_load_the_model_once(models_dir, monkeypatch) -> None:
    loads = []

    def counted(*given: Any) -> LoadedModel:
        loads.append(given)
        return loaded_model.load_model(*given)

    monkeypatch.setattr(fused, "load_model", counted)
    symbols = tuple(f"COIN{number}USDT" for number in range(100))
    service = Service(
        configure(
            models_dir, symbols=symbols, tick_sizes=dict.fromkeys(symbols, "0.10"), engine="fused", depth=50
        )
    )
    try:
        pipelines = [one.pipeline for one in service.symbols.values()]
        assert len(loads) == 1
        assert [pipeline.symbol for pipeline in pipelines] == list(symbols)
        assert {pipeline.state for pipeline in pipelines} == {SymbolState.CONNECTING}
        assert all(set(pipeline.counters.values()) == {0} for pipeline in pipelines)
        assert {pipeline.rows.book.capacity for pipeline in pipelines} == {1_024}
        for kept in ("engine", "rows"):
            assert len({id(getattr(pipeline, kept)) for pipeline in pipelines}) == 100
    finally:
        service.close()


def test_configurations_that_make_no_sense_are_refused(models_dir) -> None:
    with pytest.raises(InputError, match="symbols: none came"):
        configure(models_dir, symbols=())
    with pytest.raises(InputError, match="symbols: BTCUSDT, BTCUSDT came"):
        configure(models_dir, symbols=("BTCUSDT", "BTCUSDT"))
    with pytest.raises(InputError, match="tick_sizes: ETHUSDT came; allowed: BTCUSDT"):
        configure(models_dir, symbols=("BTCUSDT",))
    with pytest.raises(InputError, match="stall: DOGEUSDT came"):
        configure(models_dir, stall=StallPolicy(by_symbol={"DOGEUSDT": 1}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--url", "ws://10.0.0.1:9001/"], "came without TLS"),
        (["--stall-ms", "x"], "stall-ms: 'x' came"),
        (["--stall-ms", "DOGE=5"], "stall: DOGE came; allowed: BTCUSDT"),
        (["--tick-size", "1", "--tick-size", "2"], "tick-size: '2' came"),
        (["--reconnect-jitter", "2"], "jitter: 2.0 came"),
        (["--idle-s", "0"], "probe_after_s: 0.0 came"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(models_dir, arguments, message) -> None:
    with pytest.raises(InputError, match=message):
        CliRunner().invoke(
            command,
            [
                *("--symbol", "BTCUSDT", "--url", "ws://127.0.0.1:1/", "--tick-size", "BTCUSDT=0.1"),
                *("--model", "tiny", "--models-dir", str(models_dir), "--port", "0"),
                *arguments,
            ],
            catch_exceptions=False,
        )


def test_the_command_names_its_policies() -> None:
    assert isinstance(command, click.Command)
    text = CliRunner().invoke(command, ["--help"]).output
    for option in (
        "--batch",
        "--stall-ms",
        "--maximum-lag-ms",
        "--reconnect-cap-s",
        "--allow-plaintext",
        "--trades",
    ):
        assert option in text
