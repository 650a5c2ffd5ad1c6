"""Whole ticks of many symbols as subjects of the harness: one by one, and several at once in two ways."""

from time import perf_counter_ns
from typing import Final, Literal, TypeAlias, get_args

import numpy as np

from bench.samples import Samples
from bench.symbol_arrivals import Arrivals, arrival_order
from bench.symbol_pool import SymbolPool
from inference.engines.fused import FusedEngine
from inference.fused.step_batch import CAPACITY
from inference.pipeline_batch import Due, PipelineBatch
from lob.errors import InputError

Way: TypeAlias = Literal["alone", "burst", "batch"]
WAYS: Final[tuple[Way, ...]] = get_args(Way)

METHODS: Final[dict[Way, str]] = {
    "alone": "a frame at a time; from its call to its prediction",
    "burst": f"{CAPACITY} frames are there at once, one tick after the other; from then to each prediction",
    "batch": f"{CAPACITY} frames are there at once, their steps one call; from then to the predictions",
}

ORDER: Final = 1 << 16
"""Arrivals that are drawn, and then taken again and again."""


class SymbolTicks:
    """Ticks of the first `symbols` symbols of a pool, whose frames come as `arrivals` says."""

    def __init__(
        self, pool: SymbolPool, model: str, way: Way, arrivals: Arrivals, symbols: int, *, seed: int
    ) -> None:
        """Raises InputError where the pool's engine takes no batches and `way` asks for them."""
        engine = pool.pipelines[0].engine
        self.name = f"{way}-{arrivals}-{symbols}"
        self.model = model
        self.precision = str(engine.describe()["precision"])
        self.method = METHODS[way]
        self.way, self.symbols = way, symbols
        self._pool = pool
        self._order = arrival_order(arrivals, symbols, ORDER, seed=seed)
        self._next = 0
        self._batch = None
        if way == "batch":
            if not isinstance(engine, FusedEngine):
                raise InputError(f"engine: {engine.name} came; only fused steps several symbols in one call")
            self._batch = PipelineBatch(engine.batch())

    def measure(self, durations_ns: Samples) -> None:
        """Time as many ticks as `durations_ns` (N,) has room for; frames are made outside the timed parts.

        Raises InputError where a frame gives no prediction.
        """
        due = [self._pool.due(number) for number in self._numbers(len(durations_ns))]
        if self.way == "alone":
            self._one_by_one(due, durations_ns)
            return
        for start in range(0, len(due), CAPACITY):
            part = slice(start, start + CAPACITY)
            if self._batch is None:
                self._in_turn(due[part], durations_ns[part])
            else:
                self._together(self._batch, due[part], durations_ns[part])

    def busy_ns(self, durations_ns: Samples) -> int:
        """How long the core was at work for these samples: a group's is that of its last prediction."""
        if self.way == "alone":
            return int(durations_ns.sum())
        return int(sum(durations_ns[s : s + CAPACITY].max() for s in range(0, len(durations_ns), CAPACITY)))

    def _numbers(self, count: int) -> list[int]:
        first, self._next = self._next, self._next + count
        numbers: list[int] = np.take(self._order, np.arange(first, first + count), mode="wrap").tolist()
        return numbers

    def _one_by_one(self, due: list[Due], durations_ns: Samples) -> None:
        clock = perf_counter_ns
        for place, (pipeline, frame, receive_ns) in enumerate(due):
            start = clock()
            prediction = pipeline.on_frame(frame, receive_ns)
            durations_ns[place] = clock() - start
            self._require(prediction is not None)

    def _in_turn(self, due: list[Due], durations_ns: Samples) -> None:
        clock = perf_counter_ns
        start = clock()
        for place, (pipeline, frame, receive_ns) in enumerate(due):
            prediction = pipeline.on_frame(frame, receive_ns)
            durations_ns[place] = clock() - start
            self._require(prediction is not None)

    def _together(self, batch: PipelineBatch, due: list[Due], durations_ns: Samples) -> None:
        start = perf_counter_ns()
        predictions = batch.on_frames(due)
        durations_ns[:] = perf_counter_ns() - start
        self._require(None not in predictions)

    def _require(self, predicted: bool) -> None:
        if not predicted:
            raise InputError(f"{self.name}: a frame gave no prediction")
