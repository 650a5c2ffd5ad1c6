"""Models of a running service are changed over HTTP: on real sockets, with every prediction accounted for."""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect

from inference.artifact import write_artifact
from inference.engines.fused import FusedEngine
from inference.follower import Follower
from inference.model_store import ModelStore
from inference.pipeline import Pipeline
from inference.registry import load_model
from lob.instrument import Instrument
from serve.admin_access import AdminToken
from serve.model_switcher import SYMBOLS_A_TURN
from serve.reconnect import ReconnectPolicy
from serve.service import Service, ServiceConfig
from serve.shadow_log import ShadowLogConfig
from tests.serve.turn_count import counting_turns
from tests.versions import as_version

pytestmark = pytest.mark.anyio

TOKEN = "a-token-of-this-test"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@dataclass
class Running:
    """A service fed by a scripted exchange, a subscriber of it, and a client of its routes."""

    service: Service
    exchange: Any
    client: ClientConnection
    web: httpx.AsyncClient

    async def play(self, frames: list[bytes]) -> list[dict]:
        """Sends frames; answers the messages up to the prediction of the last."""
        update_id = json.loads(frames[-1])["data"]["u"]
        playing = asyncio.create_task(self.exchange.play(frames))
        messages: list[dict[str, Any]] = []
        async with asyncio.timeout(20):
            while not messages or messages[-1]["data"].get("update_id") != update_id:
                messages.append(json.loads(await self.client.recv()))
        await playing
        return messages

    async def ask(self, route: str, code: int = 200, method: str = "POST", **body: object) -> dict:
        answer = await self.web.request(method, f"/v1/admin/{route}", json=body, headers=BEARER)
        assert answer.status_code == code, answer.text
        return answer.json()


@asynccontextmanager
async def running(scripted_exchange, models_dir: Path, **options: object) -> AsyncIterator[Running]:
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        settings: dict[str, Any] = {
            "symbols": ("BTCUSDT",),
            "url": exchange.url,
            "category": "linear",
            "model": "tiny",
            "models_dir": models_dir,
            "tick_sizes": {"BTCUSDT": "0.10"},
            "port": 0,
            "reconnect": ReconnectPolicy(initial_s=0.02, factor=1, cap_s=0.02),
            "admin_token": AdminToken(TOKEN),
        }
        service = Service(ServiceConfig(**(settings | options)))
        task = asyncio.create_task(service.run())
        host, port = service.address
        async with asyncio.timeout(10):
            while not service._server.started:
                assert not task.done()
                await asyncio.sleep(0.005)
        try:
            async with (
                connect(f"ws://{host}:{port}/v1/stream", close_timeout=0.2, max_queue=None) as client,
                httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=240) as web,
            ):
                await client.send('{"op":"subscribe","args":["prediction.BTCUSDT"]}')
                assert json.loads(await client.recv())["success"]
                async with asyncio.timeout(10):
                    while not exchange.requests:
                        await asyncio.sleep(0.005)
                yield Running(service, exchange, client, web)
        finally:
            service.stop()
            await task


def add_slow_version(models_dir: Path, directory: Path) -> None:
    """Install tiny@4, written to `directory` first, which answers from its fifteenth row on."""
    tiny = load_model("tiny", models_dir)
    graphs = {kind: (tiny.directory / f"{kind}.onnx").read_bytes() for kind in tiny.manifest.graphs}
    slow, relabelled = as_version(tiny.manifest, graphs, version="4", warmup_rows=15)
    write_artifact(directory, slow, relabelled, card="")
    ModelStore(models_dir).install(directory)


def titles(messages: list[dict]) -> list[str]:
    return [
        f"{m['data']['model']}@{m['data']['model_version']}" for m in messages if m["type"] == "prediction"
    ]


def alone(models_dir: Path, model: str, frames: list[bytes]) -> dict[int, list]:
    """What `model` says of `frames` by itself, by update."""
    pipeline = Pipeline.create(
        load_model(model, models_dir), Instrument(symbol="BTCUSDT", tick_size="0.10"), depth=50
    )
    pipeline.on_connected()
    made = (pipeline.on_frame(frame, 1) for frame in frames)
    return {p.update_id: [h.probabilities for h in p.horizons] for p in made if p}


def said(message: dict) -> list:
    return [horizon["probabilities"] for horizon in message["data"]["horizons"]]


async def test_a_switch_loses_no_row_and_is_seen_and_rolled_back(
    scripted_exchange, versions_dir, market_frames
) -> None:
    frames = market_frames[:15]  # fewer rows than the window: the new model has seen them all
    async with running(scripted_exchange, versions_dir) as one:
        messages = await one.play(frames)
        assert set(titles(messages)) == {"tiny@1"}
        view = await one.ask("activate", model="tiny", version="2")
        (symbol,) = view["symbols"]
        assert (symbol["serving"]["model_version"], symbol["previous"]["model_version"]) == ("2", "1")
        assert symbol["switches"] == 1
        messages += await one.play(market_frames[15:30])
        await one.ask("rollback")
        messages += await one.play(market_frames[30:40])
        models = (await one.web.get("/v1/models")).json()["models"]
        metrics = (await one.web.get("/metrics")).text
    assert [(m["version"], m["symbols"]) for m in models if m["symbols"]] == [("1", ["BTCUSDT"])]
    serving = 'model="tiny",model_version="1",place="serving",symbol="BTCUSDT"'
    engine = messages[-1]["data"]["engine"]
    assert f'mambalob_model{{engine="{engine}",{serving}}} 1.0' in metrics
    assert 'mambalob_model_switches_total{symbol="BTCUSDT"} 2.0' in metrics
    first, second = (alone(versions_dir, name, market_frames[:40]) for name in ("tiny", "tiny@2"))
    predictions = [m for m in messages if m["type"] == "prediction"]
    assert [m["data"]["update_id"] for m in predictions] == sorted(first)  # each row once, none missed
    assert [m["seq"] for m in messages] == list(range(messages[0]["seq"], messages[-1]["seq"] + 1))
    for message in predictions[: titles(messages).index("tiny@1", 20)]:
        expected = first if message["data"]["model_version"] == "1" else second
        assert said(message) == expected[message["data"]["update_id"]]
    notices = [m["data"] for m in messages if m["type"] == "model"]
    assert [(n["model_version"], n["previous"]) for n in notices] == [("2", "tiny@1"), ("1", "tiny@2")]


async def test_too_few_rows_leave_the_old_model_answering_until_there_are_enough(
    scripted_exchange, versions_dir, market_frames, tmp_path
) -> None:
    add_slow_version(versions_dir, tmp_path / "4")
    async with running(scripted_exchange, versions_dir) as one:
        messages = await one.play(market_frames[:8])
        view = await one.ask("activate", model="tiny", version="4", wait_s=0.1)
        (symbol,) = view["symbols"]
        assert (symbol["incoming"]["model_version"], symbol["serving"]["model_version"]) == ("4", "1")
        waiting = asyncio.create_task(one.ask("activate", model="tiny", version="4", wait_s=30))
        async with asyncio.timeout(10):
            while one.service.switcher.operation == "" and not waiting.done():
                await asyncio.sleep(0.001)
            while one.service.switcher.operation:
                await asyncio.sleep(0.001)
        (symbol,) = (await one.ask("rollback"))["symbols"]  # whoever waits for rows holds up nobody
        assert (symbol["refusal"], symbol["incoming"]) == ("rolled back before it took over", None)
        assert (await waiting)["symbols"][0]["serving"]["model_version"] == "1"
        await one.ask("activate", model="tiny", version="4", wait_s=0)
        for number in range(8, 40, 2):
            messages += await one.play(market_frames[number : number + 2])
        rows = one.service.symbols["BTCUSDT"].pipeline.rows.taken
        assert (await one.service.switcher.view()).symbols[0].switches == 1
    seen = titles(messages)
    assert len(seen) == rows - 4  # the first model's warm-up, and no row after it
    assert seen.index("tiny@4") >= 15 - 4
    assert seen == sorted(seen)


async def test_a_model_in_the_shadow_is_recorded_and_counted_and_never_published(
    scripted_exchange, versions_dir, market_frames, tmp_path
) -> None:
    log = ShadowLogConfig(directory=tmp_path / "shadow", interval_s=0.01)
    async with running(scripted_exchange, versions_dir, shadow_log=log) as one:
        begun = await one.ask("shadow", model="tiny", version="2")
        assert begun["operation"] == ""  # it is done, and the next change may come
        messages = await one.play(market_frames[:60])
        async with asyncio.timeout(10):
            while one.service.shadow_log.written < len(titles(messages)):
                await asyncio.sleep(0.01)
        metrics = (await one.web.get("/metrics")).text
        view = await one.ask("shadow", method="DELETE")
        assert (view["operation"], view["symbols"][0]["shadow"]) == ("", None)
    assert set(titles(messages)) == {"tiny@1"}
    lines = (tmp_path / "shadow" / "shadow.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    published = [m["data"] for m in messages if m["type"] == "prediction"]
    assert [record["published"] for record in records] == published
    expected = alone(versions_dir, "tiny@2", market_frames[:60])
    for record in records:
        assert record["shadow"]["model_version"] == "2"
        assert record["shadow"]["emit_ns"] == 0
        probabilities = [horizon["probabilities"] for horizon in record["shadow"]["horizons"]]
        assert probabilities == expected[record["shadow"]["update_id"]]
    answered = f'status="answered",symbol="BTCUSDT"}} {len(records)}.0'
    assert f"mambalob_shadow_predictions_total{{{answered}" in metrics
    assert f'mambalob_shadow_records_total{{status="written"}} {len(records)}.0' in metrics


async def test_a_corrupted_artifact_is_refused_and_the_old_model_goes_on(
    scripted_exchange, versions_dir, market_frames
) -> None:
    graph = versions_dir / "tiny" / "2" / "step.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 0xFF
    graph.write_bytes(content)
    async with running(scripted_exchange, versions_dir) as one:
        await one.play(market_frames[:20])
        problem = await one.ask("activate", 422, model="tiny", version="2")
        assert "sha256" in problem["detail"]
        assert one.service.switcher.failures == 1
        assert set(titles(await one.play(market_frames[20:40]))) == {"tiny@1"}
        assert (await one.ask("activate", model="tiny", version="3"))["symbols"][0]["switches"] == 1


@pytest.mark.parametrize(
    ("route", "body", "code", "says"),
    [
        ("activate", {"model": "huge"}, 422, "'huge' came"),
        ("activate", {"model": "../tiny"}, 400, "model"),
        ("activate", {"model": "/etc"}, 400, "model"),
        ("activate", {"model": "tiny", "version": "../2"}, 400, "version"),
        ("activate", {"model": "tiny", "wait_s": 1e9}, 400, "wait_s"),
        ("activate", {"model": "tiny", "surprise": 1}, 400, "surprise"),
        ("activate", {"model": "tiny", "symbols": ["DOGE"]}, 422, "'DOGE' came; allowed: BTCUSDT"),
        ("activate", {"model": "tiny", "version": "1"}, 422, "tiny@1 serves already"),
        ("activate", {}, 400, "model"),
        ("rollback", {}, 422, "no model served before tiny@1"),
        ("shadow", {"model": "tiny", "version": "9"}, 422, "'tiny@9' came"),
    ],
)
async def test_what_cannot_be_done_is_said(scripted_exchange, versions_dir, route, body, code, says) -> None:
    async with running(scripted_exchange, versions_dir) as one:
        assert says in (await one.ask(route, code, **body))["detail"]
        assert (await one.service.switcher.view()).symbols[0].switches == 0


async def test_the_window_must_be_the_models_own(scripted_exchange, versions_dir) -> None:
    async with running(scripted_exchange, versions_dir) as one:
        problem = await one.ask("activate", 422, model="sim-ssd-small")
        assert problem["detail"] == "BTCUSDT: window_length: 20 came, model sim-ssd-small allows 100"


async def test_without_a_token_there_are_no_routes(scripted_exchange, versions_dir) -> None:
    async with running(scripted_exchange, versions_dir, admin_token=None) as one:
        for method, route in (("GET", "models"), ("POST", "activate"), ("DELETE", "shadow")):
            answer = await one.web.request(method, f"/v1/admin/{route}", headers=BEARER)
            assert answer.status_code == 404


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer wrong-wrong-wrong-wrong", TOKEN, f"Basic {TOKEN}"]
)
async def test_a_wrong_token_is_refused_before_anything_is_read(
    scripted_exchange, versions_dir, authorization, caplog
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running(scripted_exchange, versions_dir) as one:
        headers = {} if authorization is None else {"Authorization": authorization}
        for method, route in (("GET", "models"), ("POST", "activate"), ("POST", "rollback")):
            answer = await one.web.request(method, f"/v1/admin/{route}", headers=headers, content=b"x")
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
    assert "wrong-wrong" not in caplog.text


async def test_wrong_tokens_are_bounded_in_rate_and_shut_nobody_out(scripted_exchange, versions_dir) -> None:
    async with running(scripted_exchange, versions_dir) as one:
        wrong = {"Authorization": "Bearer wrong-wrong-wrong-wrong"}
        codes = [(await one.web.get("/v1/admin/models", headers=wrong)).status_code for _ in range(40)]
        assert set(codes) == {401, 429}
        assert "tiny@2" in (await one.ask("models", method="GET"))["known"]
        codes = [(await one.web.get("/v1/admin/models", headers=BEARER)).status_code for _ in range(40)]
        assert set(codes) == {200, 429}


async def test_a_body_is_bounded(scripted_exchange, versions_dir) -> None:
    async with running(scripted_exchange, versions_dir) as one:
        answer = await one.web.post("/v1/admin/activate", headers=BEARER, content=b" " * 100_000)
        assert answer.status_code == 413
        answer = await one.web.post("/v1/admin/activate", headers=BEARER, content=b"[" * 4_000)
        assert answer.status_code == 400


async def test_one_change_at_a_time(scripted_exchange, versions_dir, market_frames) -> None:
    async with running(scripted_exchange, versions_dir) as one:
        await one.play(market_frames[:20])
        both = await asyncio.gather(
            *(
                one.web.post("/v1/admin/activate", json={"model": "tiny", "version": v}, headers=BEARER)
                for v in "23"
            )
        )
        assert sorted(answer.status_code for answer in both) == [200, 409]
        assert "is under way; one change at a time" in max(both, key=lambda a: a.status_code).json()["detail"]
        assert one.service.switcher.operation == ""


@pytest.mark.skipif(sys.platform != "linux", reason="stops a process")
async def test_a_load_that_a_stop_breaks_off_is_answered(
    scripted_exchange, versions_dir, market_frames, caplog
) -> None:
    async with running(scripted_exchange, versions_dir) as one:
        await one.play(market_frames[:20])
        await one.ask("shadow", model="tiny", version="2")
        worker = one.service.switcher._source._preparer._worker
        assert worker is not None
        os.kill(worker.process.pid, signal.SIGSTOP)
        asking = asyncio.create_task(one.ask("activate", 422, model="tiny", version="3"))
        async with asyncio.timeout(10):
            while not one.service.switcher.operation:
                await asyncio.sleep(0.001)
        one.service.stop()
        problem = await asking
    assert "was ended by signal" in problem["detail"]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_stop_waits_for_no_model_that_is_to_take_over(
    scripted_exchange, versions_dir, market_frames, tmp_path, caplog
) -> None:
    add_slow_version(versions_dir, tmp_path / "4")
    async with running(scripted_exchange, versions_dir) as one:
        await one.play(market_frames[:8])
        asking = asyncio.create_task(one.ask("activate", model="tiny", version="4", wait_s=60))
        async with asyncio.timeout(60):
            while one.service.switcher.symbols["BTCUSDT"].incoming is None:
                await asyncio.sleep(0.005)
        one.service.stop()
        view = await asking
    assert view["symbols"][0]["incoming"]["model_version"] == "4"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_the_token_stands_in_no_log_and_no_representation(
    scripted_exchange, versions_dir, market_frames, caplog
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running(scripted_exchange, versions_dir) as one:
        await one.play(market_frames[:20])
        await one.ask("activate", model="tiny", version="2")
        assert TOKEN not in repr(one.service.config)
    assert TOKEN not in caplog.text
    assert "model tiny@2 answers from here on, before it tiny@1" in caplog.text


async def test_a_model_that_takes_over_from_the_shadow_is_in_memory_once(
    scripted_exchange, versions_dir, market_frames
) -> None:
    async with running(scripted_exchange, versions_dir) as one:
        await one.play(market_frames[:20])
        await one.ask("shadow", model="tiny", version="2")
        await one.ask("activate", model="tiny", version="2")
        models = one.service.switcher.symbols["BTCUSDT"]
        serving, shadow = models.serving, models.shadow.placed
        assert serving.title == shadow.title == "tiny@2"
        assert serving.engine is not shadow.engine
        assert isinstance(serving.engine, FusedEngine)
        assert isinstance(shadow.engine, FusedEngine)
        assert serving.engine.packed().words is shadow.engine.packed().words


@pytest.mark.parametrize("place", ["incoming", "shadow"])
async def test_an_engine_that_fails_beside_the_ticks_costs_its_place_and_nothing_else(
    scripted_exchange, versions_dir, market_frames, monkeypatch, place, caplog
) -> None:
    def fail(self: Follower, most_rows: int) -> int:
        raise RuntimeError("the engine's own error")

    async with running(scripted_exchange, versions_dir) as one:
        messages = await one.play(market_frames[:20])
        monkeypatch.setattr(Follower, "catch_up", fail)
        await one.ask("activate" if place == "incoming" else "shadow", model="tiny", version="2")
        messages += await one.play(market_frames[20:40])
        async with asyncio.timeout(10):
            while one.service.switcher.failures == 0:
                await asyncio.sleep(0.005)
        (symbol,) = (await one.ask("models", method="GET"))["symbols"]
        assert (symbol["incoming"], symbol["shadow"]) == (None, None)
        assert symbol["refusal"] == "it failed: the engine's own error"
        messages += await one.play(market_frames[40:60])
    assert set(titles(messages)) == {"tiny@1"}
    assert "a model that followed failed" in caplog.text


async def test_answers_about_many_symbols_give_way(scripted_exchange, versions_dir) -> None:
    symbols = ("BTCUSDT", *(f"COIN{number}USDT" for number in range(70)))
    options = {"symbols": symbols, "tick_sizes": dict.fromkeys(symbols, "0.10")}
    async with (
        running(scripted_exchange, versions_dir, **options) as one,
        counting_turns() as count,
    ):
        answer = await one.ask("activate", 422, model="tiny", version="1")
        assert answer["detail"] == "model: tiny@1 serves already"
        before = count.now
        view = await one.service.switcher.view()
        assert count.now - before == len(symbols) // SYMBOLS_A_TURN
        assert [symbol.symbol for symbol in view.symbols] == list(symbols)
        answer = await one.ask("models", method="GET")
        assert answer["symbols"] == msgspec.to_builtins(view.symbols)
        answer = await one.ask("activate", model="tiny", version="2")
        assert {symbol["serving"]["model_version"] for symbol in answer["symbols"]} == {"2"}
