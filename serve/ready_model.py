"""A model made ready for a running service while ticks go on in it.

Nearly all of it happens in a process of its own (`serve.model_preparer`). What is left here is to take the
packed weights, and some rows with them: on the event loop, a step of a fraction of a millisecond a turn. Only
what takes longer than that is done on a thread: opening a session of onnxruntime, and loading kernels that
this process has not run yet. Python code on a thread gives the lock of the interpreter back when asked only
after `sys.getswitchinterval()`, 5 ms by default; while that thread runs it is `TURN_S`.
"""

import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from inference.artifact import Artifact
from inference.engines.engine import Engine
from inference.engines.fused import FusedEngine
from inference.follower import require_window_of
from inference.pipeline import Pipeline
from inference.preparation import Preparation, PreparationRequest, Words, take
from inference.rehearsal import REHEARSED_INSTRUMENT
from inference.symbol_models import PlacedModel
from lob.errors import InputError
from lob.rows import RowPath
from lob.venues import Venue, make_decoder
from serve.model_preparer import ModelPreparer
from serve.turns import Turns

TURN_S = 0.000_02
"""How long a thread that loads keeps the interpreter's lock once another one asks for it."""

FIRST_ROWS = 3
"""What an engine takes before it takes a symbol's: a session of onnxruntime is slow at its first calls."""

CHECKS_A_TURN = 32
"""Symbols whose windows are held against a model between two turns, some microseconds each."""


class ModelSource:
    """Where models come from, and how a service runs them. All of it is called on the event loop."""

    def __init__(
        self,
        *,
        models_dir: Path | None,
        engine: str,
        precision: str,
        venue: Venue,
        depth: int | None,
        turns: Turns,
    ) -> None:
        self._models_dir = models_dir
        self._engine = engine
        self._precision = precision
        self._venue: Venue = venue
        self._depth = depth
        self._turns = turns
        self._preparer = ModelPreparer(turns)
        self._rows: RowPath | None = None
        self._taking: asyncio.Task[Engine] | None = None
        """What is done on a thread; whoever is cancelled leaves it there."""

    async def ready(
        self, model: str, rows: Mapping[str, RowPath], loaded: Sequence[PlacedModel]
    ) -> dict[str, PlacedModel]:
        """The artifact called `model`, verified, running and warm, placed on each symbol's `rows`.

        What one of `loaded` holds already is shared, not loaded again. May take seconds, in turns; one call
        at a time. Raises ArtifactError where it does not verify or run, InputError where a symbol's rows do
        not suit it.
        """
        preparation, words = await self._preparer.prepare(
            PreparationRequest(
                model=model,
                models_dir=None if self._models_dir is None else str(self._models_dir),
                engine=self._engine,
                precision=self._precision,
                venue=self._venue,
                depth=self._depth,
            )
        )
        await self._turns.give_way()
        artifact = preparation.artifact
        await self._turns.map(lambda item: _require_window(artifact, *item), rows.items(), CHECKS_A_TURN)
        own_rows = self._own_rows(artifact)
        await self._turns.give_way()
        engine = await self._engine_on(own_rows, preparation, words, loaded)
        placed = await self._turns.map(
            lambda item: (
                item[0],
                PlacedModel(artifact=artifact, engine=engine.another(item[1].window)),
            ),
            rows.items(),
            1,
        )
        return dict(placed)

    async def close(self) -> None:
        """Make no further models ready; one that is under way is given up."""
        await self._preparer.close()

    async def _engine_on(
        self,
        rows: RowPath,
        preparation: Preparation,
        words: Words,
        loaded: Sequence[PlacedModel],
    ) -> Engine:
        """An engine for what was prepared, whose model is warm: one of `loaded`, or a new one on `rows`."""
        if self._taking is not None:  # of a load that was given up: the thread is at these rows
            await asyncio.wait([self._taking])
        artifact = preparation.artifact
        same = next((one.engine for one in loaded if one.artifact.sha256 == artifact.sha256), None)
        if same is not None:
            return same
        if not any(_runs_as(one.engine, preparation) for one in loaded):
            self._taking = asyncio.create_task(asyncio.to_thread(_taken_and_warm, preparation, words, rows))
            taken = await asyncio.shield(self._taking)
            self._taking = None
            return taken
        engine = take(preparation, words, rows.window)
        await self._turns.give_way()
        _warm(engine, rows, artifact)
        await self._turns.give_way()
        return engine

    def _own_rows(self, artifact: Artifact) -> RowPath:
        """Rows of no symbol, on which a model does first what is slow the first time."""
        manifest = artifact.manifest
        if self._rows is None or self._rows.window.length != manifest.window_length:
            self._rows = RowPath(
                make_decoder(self._venue),
                REHEARSED_INSTRUMENT,
                artifact.schema,
                manifest.sampling,
                manifest.window_length,
                depth=self._depth,
            )
        return self._rows


@contextmanager
def _short_turns() -> Iterator[None]:
    """Have threads give the interpreter's lock back soon; the caller sees to it that one at a time does this.

    The interval is the whole process's.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, TURN_S))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@_short_turns()
def _taken_and_warm(preparation: Preparation, words: Words, rows: RowPath) -> Engine:
    engine = take(preparation, words, rows.window)
    _warm(engine, rows, preparation.artifact)
    return engine


def _warm(engine: Engine, rows: RowPath, artifact: Artifact) -> None:
    """Have `engine` do what is slow the first time."""
    Pipeline(rows, engine, artifact)  # which loads the kernel that goes from frames to answers
    ring = rows.window
    for _ in range(FIRST_ROWS):
        ring.append(np.zeros(ring.feature_count, np.float32))
        engine.push(ring.latest())


def _runs_as(engine: Engine, preparation: Preparation) -> bool:
    """Whether `engine` runs the kernels that the prepared model needs."""
    if preparation.sizes is None or not isinstance(engine, FusedEngine):
        return False
    packed = engine.packed()
    return packed.sizes == preparation.sizes and packed.precision == preparation.precision


def _require_window(artifact: Artifact, symbol: str, rows: RowPath) -> None:
    try:
        require_window_of(artifact, rows)
    except InputError as error:
        raise InputError(f"{symbol}: {error}") from error
