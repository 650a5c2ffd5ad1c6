"""How long the turns of a service's event loop get while it is asked over HTTP.

A frame that arrives waits for the end of the turn in which it does, so the longest turn is what a request can
cost a frame. A task that lets the loop turn again and again notes when each turn ended, and how much of the
processor the thread has had by then: where other work takes the core away a turn gets longer, and that is
not the request's doing. The service is that of `mambalob serve` with all its symbols live and connected; the
exchange is silent by then, and whoever asks is a process of its own.
"""

import asyncio
import http.client
from array import array
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter_ns, sleep, thread_time_ns
from typing import Final

import numpy as np

from bench.delta_stream import DeltaStreamConfig
from bench.quiet_exchange import run_quiet_exchange
from bench.samples import Samples
from bench.wire.processes import RemoteProcess
from lob.errors import InputError
from serve.admin_access import AdminToken
from serve.bybit_stream import BybitStream
from serve.feed_policies import IdlePolicy, LagPolicy, StallPolicy
from serve.process import freeze_start_up
from serve.service import Service, ServiceConfig

ROUTES: Final = (
    "/metrics",
    "/v1/symbols",
    "/readyz",
    "/v1/models",
    "/v1/book/{symbol}?levels=50",
    "/v1/predictions/{symbol}",
    "/v1/predictions/NONE",
    "/v1/admin/models",
    "/openapi.json",
)
"""Those that name all symbols, one symbol, none that is served, and the document of all routes."""
FRAMES: Final = 110
"""A symbol's before the exchange is silent: the window is full, and the model warm."""
START_S: Final = 30.0
"""Beyond what subscribing takes by the venue's rate."""
ANSWER_S: Final = 60.0
PAUSE_S: Final = 0.05
"""From one answer to the next request."""
IDLE_SPAN_S: Final = 0.1
"""What stands for a request while nothing is asked: in it falls one look at all topics."""
NEVER_S: Final = 86_400.0
TURNS_A_CHUNK: Final = 4_096
_TOKEN: Final = "a-token-of-the-benchmark"  # noqa: S105  # it opens nothing but a service of this run


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What the asking process is to ask."""

    port: int
    path: str
    count: int


@dataclass(frozen=True, kw_only=True)
class RouteTurns:
    """The loop's turns during N requests of one route; `route` is empty where nothing was asked."""

    route: str
    turns_ns: Samples
    """All turns, (turns,) int64."""
    longest_ns: Samples
    """The longest of each request, (N,) int64."""
    processor_ns: Samples
    """What the thread had of a processor in the turn of each request in which it had most, (N,) int64."""
    answers_ns: Samples
    """From each request to the end of its answer, (N,) int64."""


def run_asker(pipe: Connection) -> None:
    """Ask what comes through the pipe; answers (count, 2) int64, when each request began and ended."""
    while True:
        ask: Ask = pipe.recv()
        spans_ns = np.zeros((ask.count, 2), dtype=np.int64)
        for span_ns in spans_ns:
            sleep(PAUSE_S)
            connection = http.client.HTTPConnection("127.0.0.1", ask.port, timeout=ANSWER_S)
            span_ns[0] = perf_counter_ns()
            connection.request("GET", ask.path, headers={"Authorization": f"Bearer {_TOKEN}"})
            connection.getresponse().read()
            span_ns[1] = perf_counter_ns()
            connection.close()
        pipe.send(spans_ns)


class TurnWatch:
    """Notes the end of each turn of the running loop, by `perf_counter_ns` and by `thread_time_ns`."""

    def __init__(self) -> None:
        # An array that grows is copied, for milliseconds in the end, and that would be a turn as well.
        self._chunks: list[array[int]] = []

    async def run(self) -> None:
        """Let the loop turn until cancelled."""
        clock, used = perf_counter_ns, thread_time_ns
        while True:
            chunk = array("q", bytes(2 * 8 * TURNS_A_CHUNK))
            self._chunks.append(chunk)
            for place in range(0, len(chunk), 2):
                await asyncio.sleep(0)
                chunk[place], chunk[place + 1] = clock(), used()

    def within(self, route: str, spans_ns: Samples) -> RouteTurns:
        """The turns that overlap `spans_ns` (N, 2) int64, when each request of `route` began and ended."""
        noted = np.concatenate([np.array(chunk, dtype=np.int64) for chunk in self._chunks]).reshape(-1, 2)
        ends, used = noted[noted[:, 0] > 0].T
        turns_ns, used_ns = np.diff(ends), np.diff(used)
        begins = np.searchsorted(ends[1:], spans_ns[:, 0])
        pasts = np.searchsorted(ends[:-1], spans_ns[:, 1], side="right")
        places = [slice(begin, past) for begin, past in zip(begins, pasts, strict=True)]
        return RouteTurns(
            route=route,
            turns_ns=np.concatenate([turns_ns[one] for one in places]),
            longest_ns=np.array([turns_ns[one].max() for one in places]),
            processor_ns=np.array([used_ns[one].max() for one in places]),
            answers_ns=spans_ns[:, 1] - spans_ns[:, 0],
        )


async def measure_turns(
    model: Path, symbols: int, routes: Sequence[str], *, requests: int, idle_s: float, seed: int
) -> list[RouteTurns]:
    """Turns while nothing is asked for `idle_s`, then during `requests` of each of `routes`, one at a time.

    Raises InputError where not all symbols get live.
    """
    names = tuple(f"COIN{number}USDT" for number in range(symbols))
    with ExitStack() as stack:
        exchange = stack.enter_context(
            RemoteProcess("exchange", run_quiet_exchange, seed, FRAMES, cores=None)
        )
        asker = stack.enter_context(RemoteProcess("asker", run_asker, cores=None))
        service = Service(
            ServiceConfig(
                symbols=names,
                url=f"ws://127.0.0.1:{exchange.receive(ANSWER_S)}/v5/public/linear",
                category="linear",
                model=str(model),
                tick_sizes=dict.fromkeys(names, DeltaStreamConfig().tick_size),
                port=0,
                admin_token=AdminToken(_TOKEN),
                stall=StallPolicy(after_ms=int(NEVER_S * 1000)),
                lag=LagPolicy(maximum_wait_ms=None),
                idle=IdlePolicy(probe_after_s=NEVER_S),
            )
        )
        freeze_start_up()
        serving = asyncio.create_task(service.run())
        try:
            await _until_live(service, serving)
            return await _measure(service.address[1], names[0], asker, routes, requests, idle_s)
        finally:
            service.stop()
            await serving


async def _measure(
    port: int, symbol: str, asker: RemoteProcess, routes: Sequence[str], requests: int, idle_s: float
) -> list[RouteTurns]:
    found = []
    for route in ("", *routes):
        watch = TurnWatch()
        watching = asyncio.create_task(watch.run())
        if route:
            asker.send(Ask(port=port, path=route.replace("{symbol}", symbol), count=requests))
            spans_ns = await asyncio.to_thread(asker.receive, ANSWER_S * requests)
        else:
            spans_ns = await _idle_spans(idle_s)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        found.append(watch.within(route, spans_ns))
    return found


async def _idle_spans(idle_s: float) -> Samples:
    """Spans in which nothing was asked, of `IDLE_SPAN_S` each."""
    spans_ns = []
    for _ in range(max(1, round(idle_s / IDLE_SPAN_S))):
        begin_ns = perf_counter_ns()
        await asyncio.sleep(IDLE_SPAN_S)
        spans_ns.append((begin_ns, perf_counter_ns()))
    return np.array(spans_ns, dtype=np.int64)


async def _until_live(service: Service, serving: asyncio.Task[None]) -> None:
    topics = service.hub.topics.values()
    longest_s = START_S + len(topics) / BybitStream.request_rate.per_s
    try:
        async with asyncio.timeout(longest_s):
            while not all(topic.live for topic in topics):
                if serving.done():
                    await serving
                await asyncio.sleep(0.1)
    except TimeoutError:
        late = [topic for topic in topics if not topic.live]
        raise InputError(
            f"{len(late)} of {len(topics)} symbols are not live after {longest_s:.0f} s; "
            f"{late[0].symbol} is {late[0].state.value}: {late[0].reason}"
        ) from None
