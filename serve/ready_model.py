"""A model made ready for a running service while ticks go on in it.

Nearly all of it happens in a process of its own (`serve.model_preparer`). What is left for a thread here is
to read the packed weights, or open a session, and to take some rows with them. Python code on that thread
gives the interpreter's lock back when asked only after `sys.getswitchinterval()`, 5 ms by default; meanwhile
that is a tenth of a millisecond.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from inference.follower import require_window_of
from inference.pipeline import Pipeline
from inference.preparation import PreparationRequest, take
from inference.rehearsal import REHEARSED_INSTRUMENT
from inference.symbol_models import PlacedModel
from lob.errors import InputError
from lob.rows import RowPath
from lob.venues import Venue
from serve.model_preparer import ModelPreparer

TURN_S = 0.000_02
"""How long the thread that loads keeps the interpreter's lock once another thread asks for it."""

TOUCHING_ROWS = 3


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Where models come from, and how a service runs them."""

    models_dir: Path | None
    engine: str
    precision: str
    venue: Venue
    depth: int | None
    preparer: ModelPreparer = field(default_factory=ModelPreparer)

    def ready(
        self, model: str, rows: Mapping[str, RowPath], loaded: Sequence[PlacedModel]
    ) -> dict[str, PlacedModel]:
        """The artifact called `model`, verified, running and warm, placed on each symbol's `rows`.

        What one of `loaded` holds already is shared, not loaded again. May take seconds, on any thread.
        Raises ArtifactError where it does not verify or run, InputError where a symbol's rows do not suit it.
        """
        preparation = self.preparer.prepare(
            PreparationRequest(
                model=model,
                models_dir=None if self.models_dir is None else str(self.models_dir),
                engine=self.engine,
                precision=self.precision,
                venue=self.venue,
                depth=self.depth,
            )
        )
        artifact = preparation.artifact
        for symbol, path in rows.items():
            try:
                require_window_of(artifact, path)
            except InputError as error:
                raise InputError(f"{symbol}: {error}") from error
        same = next((one.engine for one in loaded if one.artifact.sha256 == artifact.sha256), None)
        with _short_turns():
            pipeline = Pipeline.create(
                artifact,
                REHEARSED_INSTRUMENT,
                engine=take(preparation) if same is None else same,
                precision=self.precision,
                venue=self.venue,
                depth=self.depth,
            )
            _touch(pipeline)
            return {
                symbol: PlacedModel(artifact=artifact, engine=pipeline.engine.another(path.window))
                for symbol, path in rows.items()
            }

    def close(self) -> None:
        """Make no further models ready; one that is under way is given up."""
        self.preparer.close()


def _touch(pipeline: Pipeline) -> None:
    """Take some rows, since the first ones take a session of onnxruntime longer."""
    ring = pipeline.rows.window
    for _ in range(TOUCHING_ROWS):
        ring.append(np.zeros(ring.feature_count, np.float32))
        pipeline.engine.push(ring.latest())


@contextmanager
def _short_turns() -> Iterator[None]:
    """Give the interpreter's lock back soon; one thread at a time does this, and its caller sees to that."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, TURN_S))
    try:
        yield
    finally:
        sys.setswitchinterval(before)
