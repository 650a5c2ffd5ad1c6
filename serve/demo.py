"""The demo: the local exchange on the simulated market, the service, and a client of it, as three processes.

Nothing is wired past the product's own doors: the children are `mambalob exchange` and `mambalob serve`, and
what is shown comes through the stream and the HTTP routes as any subscriber gets it.
"""

import asyncio
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from inference.prediction import Prediction
from inference.registry import load_model
from lob.errors import MambalobError
from serve.accuracy import MaturedAccuracy, label_thresholds
from serve.child_process import ChildProcess
from serve.client import StreamClient
from serve.messages import Push, StateData
from serve.responses import BookView

SYMBOL = "BTCUSDT"
DEPTH = 50
START_TIMEOUT_S = 180.0
"""How long a child may take to come up: its kernels are compiled on the very first start."""

LIVE_TIMEOUT_S = 30.0
REQUEST_TIMEOUT_S = 2.0
BOOK_LEVELS = 5
REMEMBERED_LATENCIES = 100_000

_prediction_decoder = msgspec.json.Decoder(Prediction)
_state_decoder = msgspec.json.Decoder(StateData)
_book_decoder = msgspec.json.Decoder(BookView)


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """What to show and for how long (None: until stopped)."""

    model: str
    models_dir: Path | None = None
    engine: str = "auto"
    seed: int = 0
    port: int = 0
    seconds: float | None = None


class DemoState:
    """What a subscriber knows of the service by now."""

    def __init__(self, accuracy: MaturedAccuracy) -> None:
        self.state = "connecting"
        self.reason = ""
        self.predictions = 0
        self.missed = 0
        self.latest: Prediction | None = None
        self.book: BookView | None = None
        self.accuracy = accuracy
        self._latencies_us: deque[float] = deque(maxlen=REMEMBERED_LATENCIES)

    def take(self, push: Push) -> None:
        """Take one message of the stream in."""
        if push.missed:
            self.missed += push.missed
            self.accuracy.restart()
        if push.type == "state":
            told = _state_decoder.decode(push.data)
            self.state, self.reason = told.state, told.reason
            if told.state != "live":
                self.latest = self.book = None
                self.accuracy.restart()
            return
        if push.type != "prediction":
            return
        prediction = _prediction_decoder.decode(push.data)
        self.predictions += 1
        self.latest = prediction
        self._latencies_us.append(prediction.latency_us)
        self.accuracy.on_prediction(prediction)

    def tick_latency_us(self) -> tuple[float, float] | None:
        """(p50, p99) from a frame's arrival to its prediction's publication; None before the first."""
        if not self._latencies_us:
            return None
        p50, p99 = np.percentile(np.fromiter(self._latencies_us, np.float64), (50, 99))
        return float(p50), float(p99)

    def summary(self) -> str:
        """The one line that a finished demo ends with."""
        latency = self.tick_latency_us()
        tick = "no ticks" if latency is None else f"tick p50 {latency[0]:.0f} us, p99 {latency[1]:.0f} us"
        scored = [
            f"{score.accuracy:.3f} at {score.horizon} rows ({score.matured:,} matured)"
            for score in self.accuracy.horizons
            if score.accuracy is not None
        ]
        return f"{self.predictions:,} predictions, {tick}, accuracy {', '.join(scored) or 'not known yet'}"


class Demo:
    """The three processes of the demo, this one being the subscriber."""

    def __init__(self, config: DemoConfig, say: Callable[[str], None]) -> None:
        """Load what the view needs of the model; `say` takes the lines that tell of the start."""
        self.config = config
        self._say = say
        artifact = load_model(config.model, config.models_dir)
        self.artifact = artifact
        self.state = DemoState(
            MaturedAccuracy(artifact.manifest.horizons, label_thresholds(artifact.manifest, SYMBOL))
        )

    async def run(self, show: Callable[[DemoState], None], interval_s: float) -> None:
        """Start the children, subscribe, call `show` every `interval_s`; ends the children in any case.

        Returns after the configured seconds of being live. Raises ChildError where a child does not come up
        or ends, MambalobError where the service does not become live.
        """
        config = self.config
        models = ("--models-dir", str(config.models_dir)) if config.models_dir else ()
        exchange = ChildProcess(
            *("exchange", "--simulate", "--symbol", SYMBOL, "--depth", str(DEPTH)),
            *("--seed", str(config.seed), "--port", "0"),
        )
        async with exchange:
            self._say("starting the local exchange on the simulated market")
            await exchange.start(START_TIMEOUT_S)
            service = ChildProcess(
                *("serve", "--symbol", SYMBOL, "--depth", str(DEPTH), "--url", exchange.report["url"]),
                *("--model", config.model, *models, "--engine", config.engine),
                *("--port", str(config.port), "--log-level", "warning"),
            )
            async with service:
                self._say(
                    f"starting the service with the model {self.artifact.name} "
                    "(the very first start compiles the kernels, for up to a minute)"
                )
                await service.start(START_TIMEOUT_S)
                self._say(f"serving at {service.report['url']} (documentation at /docs)")
                await self._follow(exchange, service, show, interval_s)

    async def _follow(
        self,
        exchange: ChildProcess,
        service: ChildProcess,
        show: Callable[[DemoState], None],
        interval_s: float,
    ) -> None:
        """Read the stream until the time is up; a child that ends, or any error, ends it too."""
        time_is_up = asyncio.create_task(self._wait_out(), name="demo-clock")
        endings: dict[asyncio.Task[Any], ChildProcess] = {
            asyncio.create_task(child.ended(), name=f"{child.command}-end"): child
            for child in (exchange, service)
        }
        tasks: list[asyncio.Task[Any]] = [
            time_is_up,
            asyncio.create_task(self._subscribe(service.report["stream"]), name="demo-stream"),
            asyncio.create_task(self._refresh(service.report["url"], show, interval_s), name="demo-view"),
            *endings,
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
                if task in endings:
                    raise endings[task].error("ended before the demo did")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait_out(self) -> None:
        """Wait for the service to become live, then for the configured time."""
        try:
            async with asyncio.timeout(LIVE_TIMEOUT_S):
                while self.state.predictions == 0:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise MambalobError(
                f"the service did not become live within {LIVE_TIMEOUT_S:g} s: "
                f"it is {self.state.state}: {self.state.reason}"
            ) from None
        if self.config.seconds is None:
            await asyncio.Event().wait()  # until cancelled
        else:
            await asyncio.sleep(self.config.seconds)

    async def _subscribe(self, url: str) -> None:
        async with aclosing(StreamClient(url, [SYMBOL]).messages()) as messages:
            async for push, _ in messages:
                self.state.take(push)

    async def _refresh(self, url: str, show: Callable[[DemoState], None], interval_s: float) -> None:
        """Ask for the book and show everything, again and again."""
        while True:
            self.state.book = await asyncio.to_thread(read_book, f"{url}/v1/book/{SYMBOL}")
            show(self.state)
            await asyncio.sleep(interval_s)


def read_book(url: str) -> BookView | None:
    """The first levels of the service's book; None while it is not live or does not answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}?levels={BOOK_LEVELS}", timeout=REQUEST_TIMEOUT_S) as response:
            return _book_decoder.decode(response.read())
    except urllib.error.HTTPError as error:
        error.close()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        pass
    return None
