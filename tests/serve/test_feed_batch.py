"""Feeds that take waiting frames of several symbols together, held against one that takes each alone.

Both read the same frames off sockets of their own, and whatever they publish has to be the same, topic by
topic and bit for bit: predictions, states, and whose model answers.
"""

import json
import random
import re
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from inference.artifact import load_artifact
from inference.engines.engine import Engine
from inference.engines.selection import create_engine
from inference.fused import step_batch
from inference.pipeline import Pipeline
from inference.prediction import Prediction
from inference.symbol_models import PlacedModel
from lob.errors import InputError
from lob.instrument import Instrument
from lob.sync import SymbolState
from lob.trade_tape import TradeTape
from lob.venues import make_decoder
from lob.window import RingWindow
from serve.bybit_stream import BookTopic, TradeTopic
from serve.clock import AnchoredClock
from serve.feed import Feed
from serve.feed_config import FeedConfig
from serve.feed_policies import IdlePolicy, LagPolicy, ResyncPolicy, SilencePolicy
from serve.frame_consumer import Due, FrameConsumer
from serve.frame_turns import MOST_A_TURN
from serve.hub import Hub
from serve.publisher import PredictionPublisher
from serve.publisher_batch import BatchPolicy, PublisherBatch, publisher_batch
from serve.reconnect import ReconnectPolicy
from serve.trade_consumer import TradeConsumer
from tests.serve.running_feed import running
from tests.serve.waiting import until

pytestmark = pytest.mark.anyio

SYMBOLS = [f"COIN{number}USDT" for number in range(10)]
TRADED = SYMBOLS[:3]
NEVER_S = 1e6
TOO_LATE_NS = 20_000_000_000
QUICK = ReconnectPolicy(initial_s=0.01, factor=1, cap_s=0.01, settled_s=60)


class SettableClock(AnchoredClock):
    """Runs ahead by as much as the test says."""

    ahead_ns = 0

    def now_ns(self) -> int:
        return super().now_ns() + self.ahead_ns


class WritingHub(Hub):
    """Writes down what is published, but for the times of this process."""

    def __init__(self, symbols: list[str], clock: AnchoredClock) -> None:
        super().__init__(symbols, clock)
        self.published: dict[str, list[Any]] = defaultdict(list)

    def publish(self, prediction: Prediction) -> None:
        super().publish(prediction)
        told = msgspec.structs.replace(prediction, receive_ns=0, emit_ns=0, latency_us=0.0)
        self.published[prediction.symbol].append(msgspec.to_builtins(told))

    def publish_state(self, symbol: str, state: SymbolState, reason: str) -> None:
        super().publish_state(symbol, state, reason)
        self.published[symbol].append((state, re.sub(r"by \d+ ms", "by some ms", reason)))


class CountedBatch(PublisherBatch):
    """Counts how many frames were taken together each time."""

    def __init__(self, publishers: Sequence[PredictionPublisher], policy: BatchPolicy) -> None:
        super().__init__(publishers, policy)
        self.sizes: list[int] = []

    def on_frames(self, due: Sequence[Due]) -> None:
        self.sizes.append(len(due))
        super().on_frames(due)


class Market:
    """Bybit frames of one book, sound ones and others; every change is a row."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.update_id = 1_000
        self.trades = 0

    def snapshot(self) -> bytes:
        bids = [[f"{100 - 0.1 * level:.1f}", "1.5"] for level in range(14)]
        asks = [[f"{100.1 + 0.1 * level:.1f}", "2.5"] for level in range(14)]
        return self._frame("snapshot", bids, asks)

    def change(self) -> bytes:
        size = f"{1 + self.update_id % 97}.{self.update_id % 7}"
        return self._frame("delta", [[f"{100 - 0.1 * (self.update_id % 3):.1f}", size]], [])

    def spaced(self) -> bytes:
        """Its topic stands first, and what follows is not as a scan expects it."""
        return self.change().replace(b',"data"', b' , "data"')

    def topic_last(self) -> bytes:
        return json.dumps(json.loads(self.change()), sort_keys=True).encode()

    def crossed(self) -> bytes:
        return self._frame("delta", [["105.0", "1"]], [])

    def malformed(self) -> bytes:
        return self._frame("delta", [["a price", "1"]], [])

    def off_grid(self) -> bytes:
        return self._frame("delta", [["99.95", "1"]], [])

    def one_sided(self) -> bytes:
        return self._frame("delta", [], [[f"{100.1 + 0.1 * level:.1f}", "0"] for level in range(14)])

    def cut(self) -> bytes:
        return self.change()[:-9]

    def gap(self) -> bytes:
        self.update_id += 1
        return self.change()

    def old(self) -> bytes:
        self.update_id -= 1
        return self.change()

    def trade(self) -> bytes:
        self.trades += 1
        one = {
            "T": self.update_id,
            "s": self.symbol,
            "S": "Buy",
            "v": "1",
            "p": "100.0",
            "i": str(self.trades),
        }
        message = {"topic": f"publicTrade.{self.symbol}", "type": "snapshot", "ts": 1, "data": [one]}
        return json.dumps(message, separators=(",", ":")).encode()

    def _frame(self, kind: str, bids: list[list[str]], asks: list[list[str]]) -> bytes:
        self.update_id += 1
        u = self.update_id
        data = {"s": self.symbol, "b": bids, "a": asks, "u": u, "seq": u}
        frame = {"topic": f"orderbook.50.{self.symbol}", "type": kind, "ts": u, "data": data, "cts": u}
        return json.dumps(frame, separators=(",", ":")).encode()


SPOILT = ("crossed", "malformed", "off_grid", "one_sided", "cut", "gap", "old", "topic_last")


def frames_at_random(markets: list[Market], count: int, choose: random.Random) -> list[bytes]:
    """Frames of all markets in any order, now and then one that is not as it should be."""
    frames: list[bytes] = []
    for _ in range(count):
        market = choose.choice(markets[: choose.choice((2, len(markets)))])
        kind = choose.random()
        if kind < 0.04:
            frames.append(getattr(market, choose.choice(SPOILT))())
        elif kind < 0.12:
            frames.append(market.snapshot())
        elif kind < 0.16:
            frames.append(market.spaced())
        elif kind < 0.22 and market.symbol in TRADED:
            frames.append(market.trade())
        elif kind < 0.24:
            frames.append(
                choose.choice((b'{"op":"pong"}', b"no JSON", b'{"topic":"orderbook.50.X","data":{}}'))
            )
        else:
            frames.append(market.change())
    return frames


LAST = b'{"op":"pong"}'
"""Behind the frames of a turn: it is handled unless the connection is given up over one of them."""


class World:
    """One feed with everything behind it, and the exchange that it listens to."""

    def __init__(
        self,
        exchange: Any,
        models: Sequence[Path],
        *,
        policy: BatchPolicy | None,
        lag: LagPolicy | None = None,
        others: Sequence[str] = (),
    ) -> None:
        """`others` take their steps in another engine. Without a `policy` each frame is taken alone."""
        self.exchange = exchange
        self.clock = SettableClock()
        self.hub = WritingHub(SYMBOLS, self.clock)
        self.artifacts = [load_artifact(path) for path in models]
        first = self.artifacts[0]
        ring = RingWindow(first.manifest.window_length, first.schema.feature_count)
        self.engines = [create_engine("fused", artifact, ring) for artifact in self.artifacts]
        self.publishers: dict[str, PredictionPublisher] = {}
        self.shadowed: list[tuple[Any, Any]] = []
        consumers: dict[Any, FrameConsumer] = {}
        for symbol in SYMBOLS:
            instrument = Instrument(symbol=symbol, tick_size="0.10")
            engine: str | Engine = "ort-step" if symbol in others else self.engines[0]
            pipeline = Pipeline.create(first, instrument, engine=engine, depth=50, stall_ms=10**9)
            tape = TradeTape(instrument) if symbol in TRADED else None
            publisher = PredictionPublisher(pipeline, self.hub, lag=lag, tape=tape)
            self.publishers[symbol] = consumers[BookTopic(symbol=symbol, depth=50)] = publisher
            if tape is not None:
                consumers[TradeTopic(symbol=symbol)] = TradeConsumer(make_decoder("bybit"), tape)
        self.batch = None if policy is None else CountedBatch(list(self.publishers.values()), policy)
        config = FeedConfig(
            url=exchange.url,
            reconnect=QUICK,
            idle=IdlePolicy(probe_after_s=NEVER_S, ping_interval_s=NEVER_S),
            silence=SilencePolicy(after_s=NEVER_S),
            resync=ResyncPolicy(  # none is asked for: when it would be is a matter of time
                minimum_interval_s=NEVER_S, snapshot_timeout_s=NEVER_S, acknowledgement_timeout_s=NEVER_S
            ),
        )
        self.feed = Feed(config, consumers, AnchoredClock(), batch=self.batch)

    @property
    def subscribed(self) -> bool:
        return all(one.is_subscribed for one in self.feed.subscriptions.values())

    def has_connected_since(self, connections: int) -> bool:
        return self.feed.counters.connections > connections

    async def take(self, frames: Sequence[bytes]) -> None:
        """All frames at once, so that they wait; returns when they were handled or the connection lost."""
        await until(lambda: self.subscribed)
        counters = self.feed.counters
        connections, until_frames = counters.connections, counters.frames + len(frames) + 1
        with suppress(ConnectionClosed):  # given up over one of the first
            for frame in (*frames, LAST):
                await self.exchange.connections[-1].send(frame, text=True)
        await until(lambda: counters.frames >= until_frames or counters.connections > connections)
        await until(lambda: self.subscribed)

    def place(self, number: int, symbol: str) -> PlacedModel:
        rows = self.publishers[symbol].pipeline.rows
        return PlacedModel(artifact=self.artifacts[number], engine=self.engines[number].another(rows.window))

    def change_models(self, what: str, number: int, symbol: str) -> None:
        models = self.publishers[symbol].models
        if what == "switch":
            models.take_over(self.place(number, symbol))
        elif what == "shadow":
            models.begin_shadow(
                self.place(number, symbol),
                lambda published, own: self.shadowed.append((told(published), told(own))),
            )
        elif what == "no shadow":
            models.end_shadow()

    def advance(self, most_rows: int) -> None:
        """The models that follow take some rows, as they do between two turns of a feed."""
        for publisher in self.publishers.values():
            if publisher.models.watching:
                publisher.models.advance(most_rows)

    def spoil_state(self, symbol: str) -> None:
        """The model's next answer is no number."""
        engine = self.publishers[symbol].pipeline.engine
        engine.push(np.full(44, np.nan, np.float32))


def told(prediction: Prediction) -> dict[str, Any]:
    return msgspec.to_builtins(msgspec.structs.replace(prediction, receive_ns=0, emit_ns=0, latency_us=0.0))


def compare(worlds: Sequence[World], *, counters: bool = True) -> None:
    alone, *others = worlds
    for world in others:
        for symbol in SYMBOLS:
            assert world.hub.published[symbol] == alone.hub.published[symbol], symbol
            assert world.hub.topic_of(symbol).seq == alone.hub.topic_of(symbol).seq
            one, other = world.publishers[symbol], alone.publishers[symbol]
            assert (one.needs_resync, one.awaits_snapshot, one.reason) == (
                other.needs_resync,
                other.awaits_snapshot,
                other.reason,
            )
            assert one.models.switches == other.models.switches
            if counters:
                assert one.pipeline.counters == other.pipeline.counters
                if one._tape is not None and other._tape is not None:
                    assert (one._tape.trades, one._tape.late) == (other._tape.trades, other._tape.late)
        assert world.shadowed == alone.shadowed


@pytest.fixture(scope="session")
def versions(version_sources: dict[str, Path]) -> list[Path]:
    return [version_sources[name] for name in "123"]


EAGER = BatchPolicy(mode="on", least_waiting=1)


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_the_same_is_published_as_of_frames_taken_alone(
    seed: int, versions: list[Path], scripted_exchange
) -> None:
    choose = random.Random(seed)
    markets = [Market(symbol) for symbol in SYMBOLS]
    others = [] if seed % 2 else [SYMBOLS[4]]
    async with scripted_exchange() as first, scripted_exchange() as second, scripted_exchange() as third:
        worlds = []
        for exchange, policy in ((first, None), (second, EAGER), (third, BatchPolicy(mode="on"))):
            exchange.snapshots = False
            worlds.append(World(exchange, versions, policy=policy, others=others))
        async with running(worlds[0].feed), running(worlds[1].feed), running(worlds[2].feed):
            opening = [market.snapshot() for market in markets]
            opening += [market.change() for _ in range(6) for market in markets]
            for world in worlds:
                await world.take(opening)
            for _ in range(40):
                frames = frames_at_random(markets, choose.randint(1, 90), choose)
                for world in worlds:
                    await world.take(frames)
                happened = choose.choice(("switch", "shadow", "no shadow", "nan", "lost", "", "", ""))
                number, symbol = choose.randrange(3), choose.choice(SYMBOLS)
                if happened == "lost":
                    for world in worlds:
                        connections = world.feed.counters.connections
                        world.exchange.connections[-1].transport.abort()
                        await until(partial(world.has_connected_since, connections))
                rows = choose.choice((1, 4, 200))
                for world in worlds:
                    if happened == "nan":
                        world.spoil_state(symbol)
                    elif happened not in ("", "lost"):
                        world.change_models(happened, number, symbol)
                    world.advance(rows)
        compare(worlds)
        for world in worlds[1:]:
            assert world.batch is not None
            assert max(world.batch.sizes) == MOST_A_TURN
        assert sum(worlds[1].batch.sizes) > sum(worlds[2].batch.sizes) > 200
        predictions = [
            one for told in worlds[0].hub.published.values() for one in told if isinstance(one, dict)
        ]
        assert len(predictions) > 250
        assert len({one["model_version"] for one in predictions}) > 1


@pytest.mark.parametrize("seed", range(4))
async def test_a_late_feed_is_given_up_at_the_same_frame(
    seed: int, versions: list[Path], scripted_exchange
) -> None:
    """Of the frames that wait behind the one that gives the connection up, nothing is published."""
    choose = random.Random(100 + seed)
    markets = [Market(symbol) for symbol in SYMBOLS]
    lag = LagPolicy(maximum_wait_ms=10_000 if seed % 2 else None, maximum_lag_ms=10_000)
    async with scripted_exchange() as first, scripted_exchange() as second:
        worlds = []
        for exchange, policy in ((first, None), (second, EAGER)):
            exchange.snapshots = False
            worlds.append(World(exchange, versions, policy=policy, lag=lag))
        async with running(worlds[0].feed), running(worlds[1].feed):
            for turn in range(12):
                frames = [market.snapshot() for market in markets]
                frames += [market.change() for _ in range(6) for market in markets]
                if turn % 3 == 1:
                    frames = frames_at_random(markets, 60, choose)
                for world in worlds:
                    world.clock.ahead_ns = TOO_LATE_NS if turn % 3 else 0
                    await world.take(frames)
        compare(worlds, counters=False)
        reasons = [one for told in worlds[0].hub.published.values() for one in told if isinstance(one, tuple)]
        assert any("is late" in reason for _, reason in reasons)
        assert worlds[0].feed.counters.connections == worlds[1].feed.counters.connections > 2


async def test_frames_that_came_before_the_end_of_a_connection_are_all_taken(
    versions: list[Path], scripted_exchange
) -> None:
    markets = [Market(symbol) for symbol in SYMBOLS]
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        world = World(exchange, versions, policy=EAGER)
        async with running(world.feed):
            await until(lambda: world.subscribed)
            for frame in [one.snapshot() for one in markets] + [one.change() for one in markets * 8]:
                await exchange.connections[0].send(frame, text=True)
            await exchange.connections[0].close()
            await until(lambda: world.feed.counters.connections == 2)
        for symbol in SYMBOLS:
            assert world.feed.subscriptions[f"orderbook.50.{symbol}"].counters.frames == 9
            assert sum(isinstance(one, dict) for one in world.hub.published[symbol]) == 5  # of 9 rows, 4 warm


async def test_a_message_of_which_a_part_is_there_keeps_nobody_waiting(
    versions: list[Path], scripted_exchange
) -> None:
    one, two, three = (Market(symbol).snapshot() for symbol in SYMBOLS[:3])
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        world = World(exchange, versions, policy=EAGER)
        async with running(world.feed):
            await until(lambda: world.subscribed)
            counters, before = world.feed.counters, world.feed.counters.frames
            write = exchange.connections[0].transport.write
            begun = Frame(Opcode.TEXT, three[:60], fin=False).serialize(mask=False)
            write(b"".join(Frame(Opcode.TEXT, whole).serialize(mask=False) for whole in (one, two)) + begun)
            await until(lambda: counters.frames == before + 2)
            assert world.feed.waiting_frames == 1
            write(Frame(Opcode.CONT, three[60:]).serialize(mask=False))
            await until(lambda: counters.frames == before + 3)
            assert world.feed.waiting_frames == 0
        for symbol in SYMBOLS[:3]:
            assert SymbolState.WARMING in [state for state, _ in world.hub.published[symbol]]


async def test_a_model_whose_call_is_not_compiled_steps_alone(
    versions: list[Path], scripted_exchange, monkeypatch
) -> None:
    """To compile it would keep the ticks waiting."""
    markets = [Market(symbol) for symbol in SYMBOLS]
    async with scripted_exchange() as first, scripted_exchange() as second:
        worlds = []
        for exchange, policy in ((first, None), (second, EAGER)):
            exchange.snapshots = False
            worlds.append(World(exchange, versions, policy=policy))
        batch, pipeline = worlds[1].batch, worlds[1].publishers[SYMBOLS[0]].pipeline
        assert batch is not None
        assert pipeline.seat is not None
        sizes = pipeline.seat.model.sizes
        assert batch._batch_of(pipeline) is not None
        async with running(worlds[0].feed), running(worlds[1].feed):
            frames = [market.snapshot() for market in markets]
            for number in range(3):
                frames += [market.change() for _ in range(8) for market in markets]
                for world in worlds:
                    await world.take(frames)
                if number == 1:
                    assert batch._batch_of(pipeline) is None  # it was looked for in vain
                    monkeypatch.undo()
                elif number == 0:
                    monkeypatch.delitem(step_batch._STEPS, sizes)
                for world in worlds if number < 2 else ():
                    for symbol in SYMBOLS:
                        world.change_models("switch", number + 1, symbol)
                    world.advance(200)
                frames = []
        assert batch._batch_of(pipeline) is not None  # the third version's
        assert len(batch._batches) < 3
        compare(worlds)
        published = [one for one in worlds[0].hub.published[SYMBOLS[0]] if isinstance(one, dict)]
        assert {one["model_version"] for one in published} == {"1", "2", "3"}


def publishers(count: int, model: Path, engine: str = "fused") -> list[PredictionPublisher]:
    hub = Hub(SYMBOLS, AnchoredClock())
    artifact = load_artifact(model)
    made: list[PredictionPublisher] = []
    for symbol in [f"COIN{number}USDT" for number in range(count)]:
        shared: str | Engine = made[0].pipeline.engine if made else engine
        pipeline = Pipeline.create(artifact, Instrument(symbol=symbol, tick_size="0.10"), engine=shared)
        made.append(PredictionPublisher(pipeline, hub))
    return made


def test_batches_are_made_where_they_pay_or_are_asked_for(
    versions: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = publishers(2, versions[0]), publishers(40, versions[0])
    assert publisher_batch(many, BatchPolicy()) is None  # a model this small
    assert publisher_batch(many, BatchPolicy(mode="off")) is None
    assert publisher_batch(few, BatchPolicy(mode="on")) is not None
    assert publisher_batch(few[:1], BatchPolicy(mode="on")) is None
    assert publisher_batch(publishers(40, versions[0], "ort-step"), BatchPolicy()) is None
    monkeypatch.setattr("serve.publisher_batch.LEAST_WEIGHT_BYTES", 1)  # as if this were a large model
    assert publisher_batch(many, BatchPolicy()) is not None
    assert publisher_batch(many[:15], BatchPolicy()) is None  # so few symbols
    with pytest.raises(InputError, match="batch: engine ort-step came; allowed: fused"):
        publisher_batch(publishers(2, versions[0], "ort-step"), BatchPolicy(mode="on"))
    with pytest.raises(InputError, match="batch: 'perhaps' came; allowed: auto, on, off"):
        BatchPolicy(mode="perhaps")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="least_waiting: 0 came"):
        BatchPolicy(least_waiting=0)
