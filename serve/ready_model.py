"""A model made ready for a running service while ticks go on in it.

Nearly all of it happens in a process of its own (`serve.model_preparer`). What is left for a thread here is
to take the packed weights, or open a session, and to take some rows with them. Python code on that thread
gives the interpreter's lock back when asked only after `sys.getswitchinterval()`, 5 ms by default; meanwhile
that is `TURN_S`.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from inference.artifact import Artifact
from inference.follower import require_window_of
from inference.pipeline import Pipeline
from inference.preparation import PreparationRequest, take
from inference.rehearsal import REHEARSED_INSTRUMENT
from inference.symbol_models import PlacedModel
from lob.errors import InputError
from lob.rows import RowPath
from lob.venues import Venue, make_decoder
from serve.model_preparer import ModelPreparer

TURN_S = 0.000_02
"""How long the thread that loads keeps the interpreter's lock once another thread asks for it."""

FIRST_ROWS = 3
"""What an engine takes before it takes a symbol's: a session of onnxruntime is slow at its first calls."""


@contextmanager
def _short_turns() -> Iterator[None]:
    """Give the interpreter's lock back soon; one thread at a time does this, and its caller sees to that."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, TURN_S))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class ModelSource:
    """Where models come from, and how a service runs them.

    `ready` and `close` may be called on other threads than the service's; `ready` on one at a time.
    """

    def __init__(
        self, *, models_dir: Path | None, engine: str, precision: str, venue: Venue, depth: int | None
    ) -> None:
        self._models_dir = models_dir
        self._engine = engine
        self._precision = precision
        self._venue: Venue = venue
        self._depth = depth
        self._preparer = ModelPreparer()
        self._rows: RowPath | None = None

    @_short_turns()
    def ready(
        self, model: str, rows: Mapping[str, RowPath], loaded: Sequence[PlacedModel]
    ) -> dict[str, PlacedModel]:
        """The artifact called `model`, verified, running and warm, placed on each symbol's `rows`.

        What one of `loaded` holds already is shared, not loaded again. May take seconds. Raises ArtifactError
        where it does not verify or run, InputError where a symbol's rows do not suit it.
        """
        preparation, words = self._preparer.prepare(
            PreparationRequest(
                model=model,
                models_dir=None if self._models_dir is None else str(self._models_dir),
                engine=self._engine,
                precision=self._precision,
                venue=self._venue,
                depth=self._depth,
            )
        )
        artifact = preparation.artifact
        for symbol, path in rows.items():
            try:
                require_window_of(artifact, path)
            except InputError as error:
                raise InputError(f"{symbol}: {error}") from error
        same = next((one.engine for one in loaded if one.artifact.sha256 == artifact.sha256), None)
        own_rows = self._own_rows(artifact)
        ring = own_rows.window
        engine = take(preparation, words, ring) if same is None else same.another(ring)
        Pipeline(own_rows, engine, artifact)  # which loads the kernel that goes from frames to answers
        for _ in range(FIRST_ROWS):
            ring.append(np.zeros(ring.feature_count, np.float32))
            engine.push(ring.latest())
        return {
            symbol: PlacedModel(artifact=artifact, engine=engine.another(path.window))
            for symbol, path in rows.items()
        }

    def close(self) -> None:
        """Make no further models ready; one that is under way is given up."""
        self._preparer.close()

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
