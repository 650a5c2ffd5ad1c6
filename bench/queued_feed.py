"""Frames of many symbols that wait on a feed's socket, as subjects of the harness: taken alone or in batches.

All is a service's own, from the socket to the publication: connection, feed, pipelines, publishers, hub. Only
nobody has subscribed. The frames are made and sent by another process, so many at once as are to wait.
"""

import asyncio
import socket
from contextlib import suppress
from multiprocessing.connection import Connection
from time import thread_time_ns
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from websockets.frames import Frame, Opcode

from bench.samples import Samples
from bench.symbol_frames import DEPTH, SymbolFrames
from bench.wire.processes import RemoteProcess
from bench.wire.source import CONNECT_S, answer_subscriptions
from inference.artifact import Artifact
from inference.engines.engine import Engine
from inference.pipeline import Pipeline
from inference.prediction import Prediction
from lob.instrument import Instrument
from serve.bybit_stream import BookTopic
from serve.clock import AnchoredClock
from serve.feed import Feed
from serve.feed_config import FeedConfig
from serve.feed_policies import IdlePolicy, LagPolicy, ResyncPolicy
from serve.frame_consumer import FrameConsumer
from serve.hub import Hub
from serve.publisher import PredictionPublisher
from serve.publisher_batch import BatchPolicy, PublisherBatch
from serve.venue_stream import Topic

Way: TypeAlias = Literal["alone", "batch"]
WAYS: Final[tuple[Way, ...]] = get_args(Way)

METHODS: Final[dict[Way, str]] = {
    "alone": "each frame's steps on their own; from its arrival in the process to its publication",
    "batch": "steps of long queues together; from a frame's arrival in the process to its publication",
}

ANSWER_S: Final = 60.0
NEVER_S: Final = 86_400.0


def run_queue_source(pipe: Connection, symbols: int, seed: int) -> None:
    """Say the port, serve one client the frames of `symbols` symbols in turn, so many at once as are ordered.

    An order is a number of frames, answered when they are made; they are sent with the next message.
    """
    frames = SymbolFrames(symbols, seed=seed)
    turn = 0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pipe.send(listener.getsockname()[1])
        listener.settimeout(CONNECT_S)
        client, _ = listener.accept()
        with client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answer_subscriptions(client, symbols)
            while True:
                count: int = pipe.recv()
                texts = [frames.take((turn + number) % symbols).frame for number in range(count)]
                turn += count
                written = b"".join(Frame(Opcode.TEXT, text).serialize(mask=False) for text in texts)
                pipe.send(count)
                pipe.recv()
                client.sendall(written)


class _TimedHub(Hub):
    """Notes how long each prediction took from its frame's arrival."""

    def __init__(self, symbols: list[str], clock: AnchoredClock) -> None:
        super().__init__(symbols, clock)
        self.taken_ns: list[int] = []
        self.expected = 0
        self.complete = asyncio.Event()

    def publish(self, prediction: Prediction) -> None:
        super().publish(prediction)
        self.taken_ns.append(prediction.emit_ns - prediction.receive_ns)
        if len(self.taken_ns) == self.expected:
            self.complete.set()


class QueuedFeed:
    """One feed and its source; a `bench.harness.Subject` whose calls are frames, `waiting` of them at once.

    A context manager. `loop` runs nothing but feeds like this one, and only while one of them measures.
    """

    def __init__(
        self,
        artifact: Artifact,
        engine: Engine,
        way: Way,
        *,
        label: str,
        symbols: int,
        waiting: int,
        seed: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Start the source, and make all but the connection; raises as `PublisherBatch` for batches."""
        self.name = f"{way}-{symbols}-{waiting}"
        self.model = label
        self.precision = str(engine.describe()["precision"])
        self.method = METHODS[way]
        self.frames = 0
        """Frames taken so far."""
        self.spent_ns = 0
        """Processor time of this thread in which they were: the pipe to the source is not in it."""
        self._waiting = waiting
        self._warmup_rows = artifact.manifest.warmup_rows
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        frames = SymbolFrames(symbols, seed=seed)
        clock = AnchoredClock()
        self._hub = _TimedHub(frames.names, clock)
        self._publishers = [
            PredictionPublisher(
                Pipeline.create(
                    artifact,
                    Instrument(symbol=name, tick_size=frames.tick_size),
                    engine=engine,
                    depth=DEPTH,
                    stall_ms=round(NEVER_S * 1000),
                ),
                self._hub,
                lag=LagPolicy(maximum_wait_ms=round(NEVER_S * 1000)),
            )
            for name in frames.names
        ]
        consumers: dict[Topic, FrameConsumer] = {
            BookTopic(symbol=one.pipeline.symbol, depth=DEPTH): one for one in self._publishers
        }
        batch = PublisherBatch(self._publishers, BatchPolicy(mode="on")) if way == "batch" else None
        self._source = RemoteProcess("source of queued frames", run_queue_source, symbols, seed, cores=None)
        port = self._source.receive(ANSWER_S)
        # A feed is silent while the other one has its turn: nothing is to be made of that.
        config = FeedConfig(
            url=f"ws://127.0.0.1:{port}/",
            idle=IdlePolicy(probe_after_s=NEVER_S, ping_interval_s=NEVER_S),
            resync=ResyncPolicy(snapshot_timeout_s=NEVER_S),
        )
        self._feed = Feed(config, consumers, clock, batch=batch)

    def __enter__(self) -> "QueuedFeed":
        """Connect, and feed each symbol until it predicts."""
        self._loop.run_until_complete(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self._stop())
        self._source.__exit__()

    def measure(self, durations_ns: Samples) -> None:
        """Have as many frames sent as `durations_ns` (N,) has room for, `waiting` at once; time each."""
        for start in range(0, len(durations_ns), self._waiting):
            part = durations_ns[start : start + self._waiting]
            part[:] = self._loop.run_until_complete(self._burst(len(part), expected=len(part)))

    async def _start(self) -> None:
        self._task = asyncio.create_task(self._feed.run())
        subscriptions = self._feed.subscriptions.values()
        while not all(one.is_subscribed for one in subscriptions):
            await asyncio.sleep(0.01)
        symbols = len(self._publishers)
        await self._burst(symbols * self._warmup_rows, expected=symbols)

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _burst(self, count: int, *, expected: int) -> NDArray[np.int64]:
        """Have `count` frames sent at once; how long their predictions took."""
        hub = self._hub
        hub.taken_ns, hub.expected = [], expected
        hub.complete.clear()
        self._source.send(count)
        self._source.receive(ANSWER_S)
        start_ns = thread_time_ns()
        self._source.send(None)
        async with asyncio.timeout(ANSWER_S):
            await hub.complete.wait()
        self.spent_ns += thread_time_ns() - start_ns
        self.frames += count
        return np.array(hub.taken_ns, np.int64)
