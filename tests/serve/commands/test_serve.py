"""`mambalob serve` in its own process, beside the exchange, replay and clients of the service."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from inference.prediction import Prediction
from lob.market import MarketConfiguration, SimulatedMarket
from serve.client import StreamClient
from serve.messages import Push, StateData
from serve.reconnect import ReconnectPolicy

pytestmark = pytest.mark.anyio

CAPTURE = "bybit/spot_btcusdt_cpp_trading_core/orderbook50_btcusdt_1000frames_20260808.ndjson"
TICK_SIZE = "0.1"


def mambalob(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mambalob", *arguments]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Process:
    """A command in its own process, and what it reported on its first line."""

    def __init__(self, process: asyncio.subprocess.Process, report: dict) -> None:
        self.process = process
        self.report = report

    async def end(self, number: signal.Signals) -> tuple[int, float]:
        """Sends a signal; answers the exit code and how many seconds the end took."""
        began_s = time.perf_counter()
        self.process.send_signal(number)
        await asyncio.wait_for(self.process.communicate(), 10)
        return self.process.returncode, time.perf_counter() - began_s


@asynccontextmanager
async def started(*arguments: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *mambalob(*arguments, "--json"), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        line = await asyncio.wait_for(process.stdout.readline(), 90)
        yield Process(process, json.loads(line))
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def serve_arguments(models_dir: Path, url: str, *more: str) -> list[str]:
    return [
        *("serve", "--symbol", "BTCUSDT", "--depth", "50", "--url", url, "--port", "0"),
        *("--model", "tiny", "--models-dir", str(models_dir), *more),
    ]


class Subscriber:
    """A client that reads all the time, in a task of its own, and keeps what it was told."""

    def __init__(self, url: str) -> None:
        self.client = StreamClient(url, ["BTCUSDT"], ReconnectPolicy(initial_s=0.05, cap_s=0.2))
        self.pushes: list[Push] = []

    async def read(self) -> None:
        async with aclosing(self.client.messages()) as messages:
            async for push, _ in messages:
                self.pushes.append(push)

    @property
    def states(self) -> list[StateData]:
        return [msgspec.json.decode(p.data, type=StateData) for p in self.pushes if p.type == "state"]

    @property
    def predictions(self) -> list[Prediction]:
        return [msgspec.json.decode(p.data, type=Prediction) for p in self.pushes if p.type == "prediction"]

    async def until(self, condition: Callable[[], bool], timeout_s: float = 30) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def subscribed(url: str) -> AsyncIterator[Subscriber]:
    subscriber = Subscriber(url)
    reading = asyncio.create_task(subscriber.read())
    try:
        await subscriber.until(lambda: bool(subscriber.pushes))
        yield subscriber
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def told(prediction: Prediction) -> tuple:
    """All of a prediction but this process's own times."""
    return (
        prediction.symbol,
        prediction.model,
        prediction.engine,
        prediction.precision,
        prediction.update_id,
        prediction.exchange_ms,
        prediction.mid,
        [(h.horizon, h.direction, h.confidence, h.probabilities) for h in prediction.horizons],
    )


@pytest.mark.parametrize(
    ("engine", "precision"),
    [("auto", "float32"), ("ort-step", "float32"), ("ort-window", "float32"), ("fused", "int8")],
)
async def test_a_capture_served_live_gives_what_its_replay_gives_bit_for_bit(
    data_dir, models_dir, engine, precision
) -> None:
    asked = ("--engine", engine, "--precision", precision, "--tick-size", TICK_SIZE)
    capture = data_dir / CAPTURE
    replay = subprocess.run(
        mambalob(
            *("replay", str(capture), "--emit", "predictions", "--model", "tiny"),
            *("--models-dir", str(models_dir), *asked),
        ),
        capture_output=True,
        check=True,
    )
    replayed = [msgspec.json.decode(line, type=Prediction) for line in replay.stdout.splitlines()]
    assert len(replayed) > 300
    assert {prediction.precision for prediction in replayed} == {precision}
    port = free_port()
    url = f"ws://127.0.0.1:{port}/v5/public/spot"
    # The service first: it tries until the exchange is there, and the client misses nothing.
    options = serve_arguments(models_dir, url, *asked)
    async with (
        started(*options) as service,
        subscribed(service.report["stream"]) as subscriber,
        started("exchange", str(capture), "--port", str(port), "--speed", "20"),
    ):
        last_update = replayed[-1].update_id
        await subscriber.until(
            lambda: (
                subscriber.pushes[-1].type == "prediction"
                and subscriber.predictions[-1].update_id == last_update
            )
        )
        assert subscriber.client.missed == 0
        assert [told(p) for p in subscriber.predictions] == [told(p) for p in replayed]
        assert all(p.receive_ns < p.emit_ns for p in subscriber.predictions)
        live_at = next(i for i, push in enumerate(subscriber.pushes) if push.type == "prediction")
        assert subscriber.states[live_at - 1].state == "live"


async def test_an_exchange_that_is_killed_is_told_and_live_comes_back_with_it(models_dir) -> None:
    port = free_port()
    url = f"ws://127.0.0.1:{port}/v5/public/linear"
    market = ("exchange", "--simulate", "--port", str(port), "--speed", "5")
    async with (
        started(*serve_arguments(models_dir, url, "--tick-size", "0.10")) as service,
        subscribed(service.report["stream"]) as subscriber,
    ):

        async def live_until_it_is_killed(lives: int) -> None:
            async with started(*market) as exchange:
                await subscriber.until(lambda: [s.state for s in subscriber.states].count("live") >= lives)
                published = len(subscriber.predictions)
                await subscriber.until(lambda: len(subscriber.predictions) > published)
                exchange.process.kill()
                await subscriber.until(lambda: subscriber.states[-1].state == "connecting")

        for lives in (1, 2):
            await live_until_it_is_killed(lives)
            told_reasons = [s.reason for s in subscriber.states if s.reason.startswith("connection lost")]
            assert told_reasons
            published = len(subscriber.predictions)
            await asyncio.sleep(0.3)
            assert len(subscriber.predictions) == published
        assert subscriber.client.connections == 1
        code, seconds = await service.end(signal.SIGTERM)
        assert code == 0
        assert seconds < 2
        await subscriber.until(lambda: subscriber.states[-1].reason == "the service is stopping")


def true_mids(seed: int, count: int) -> dict[int, float]:
    """The mid at every update of a simulated market, from a book kept in two dictionaries."""
    bids: dict[float, float] = {}
    asks: dict[float, float] = {}
    mids = {}
    for _, frame in SimulatedMarket(MarketConfiguration(seed=seed)).generate(count):
        message = json.loads(frame)
        if message["type"] == "snapshot":
            bids.clear()
            asks.clear()
        for side, levels in ((bids, message["data"]["b"]), (asks, message["data"]["a"])):
            for price, size in levels:
                if float(size) == 0:
                    side.pop(float(price), None)
                else:
                    side[float(price)] = float(size)
        mids[message["data"]["u"]] = (max(bids) + min(asks)) / 2
    return mids


async def test_with_every_97th_message_lost_no_prediction_leaves_a_wrong_book(models_dir) -> None:
    port = free_port()
    url = f"ws://127.0.0.1:{port}/v5/public/linear"
    market = ("exchange", "--simulate", "--seed", "3", "--port", str(port), "--speed", "4")
    mids = true_mids(seed=3, count=6_000)
    async with (
        started(*serve_arguments(models_dir, url, "--tick-size", "0.10")) as service,
        subscribed(service.report["stream"]) as subscriber,
        started(*market, "--drop-every", "97"),
    ):
        await subscriber.until(lambda: [s.state for s in subscriber.states].count("stale") >= 3)
        await subscriber.until(lambda: subscriber.states[-1].state == "live")
        state = "connecting"
        predictions = 0
        for push in list(subscriber.pushes):
            if push.type == "state":
                state = msgspec.json.decode(push.data, type=StateData).state
                continue
            assert state == "live"
            prediction = msgspec.json.decode(push.data, type=Prediction)
            assert prediction.mid == pytest.approx(mids[prediction.update_id], abs=1e-9)
            predictions += 1
        assert predictions > 100
        reasons = {s.reason for s in subscriber.states if s.state == "stale"}
        assert reasons == {"gap in the book's sequence"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("--port", "{taken}", "--tick-size", "0.1"),
            "cannot listen on 127.0.0.1:{taken}: Address already in use",
        ),
        (("--model", "huge", "--tick-size", "0.1"), "model: 'huge' came, known in"),
        (("--url", "ws://127.0.0.1:{closed}/v5/public/linear"), "cannot be reached (Connection refused)"),
        (("--url", "http://127.0.0.1/"), "url: 'http://127.0.0.1/' came, ws://"),
        (("--tick-size", "-1"), "tick_size: '-1'"),
        (("--symbol", "BTC USDT"), "symbol: 'BTC USDT' came"),
        (("--shadow-dir", "shadow"), "--shadow-dir: shadow came without a token"),
    ],
)
def test_what_is_wrong_at_the_start_is_one_line_and_exit_code_1(models_dir, options, words) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        names = {"taken": listener.getsockname()[1], "closed": free_port()}
        done = subprocess.run(
            mambalob(
                *serve_arguments(models_dir, "ws://127.0.0.1:1/v5/public/linear"),
                *(option.format(**names) for option in options),
            ),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert words.format(**names) in done.stderr


async def test_a_symbol_the_exchange_does_not_list_ends_the_service_with_one_line(models_dir) -> None:
    async with started("exchange", "--simulate", "--port", "0") as exchange:
        for option in ((), ("--tick-size", "0.1")):  # refused over HTTP, or by the stream
            listed = serve_arguments(models_dir, exchange.report["url"], *option)
            arguments = ["DOGEUSDT" if argument == "BTCUSDT" else argument for argument in listed]
            process = await asyncio.create_subprocess_exec(
                *mambalob(*arguments, "--log-level", "error"),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            _, errors = await asyncio.wait_for(process.communicate(), 60)
            assert process.returncode == 1
            assert len(errors.splitlines()) == 1, errors
            assert b"DOGEUSDT" in errors
