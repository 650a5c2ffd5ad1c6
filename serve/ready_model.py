"""A model made ready for a running service on a thread of its own, while ticks go on in the service's.

What a load costs the ticks is the interpreter's lock: Python code on another thread gives it back when asked
only after `sys.getswitchinterval()`, 5 ms by default. While a model is loaded that is a tenth of a
millisecond. Reading, hashing, opening a session and compiling release the lock for most of their time.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from inference.engines.engine import Engine
from inference.follower import require_window_of
from inference.pipeline import Pipeline
from inference.registry import load_named
from inference.rehearsal import warm_up
from inference.symbol_models import PlacedModel
from lob.errors import InputError
from lob.instrument import Instrument
from lob.rows import RowPath
from lob.venues import Venue

TURN_S = 0.000_1
"""How long the thread that loads keeps the interpreter's lock once another thread asks for it."""

_INSTRUMENT = Instrument(symbol="REHEARSAL", tick_size="0.10")


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Where models come from, and how a service runs them."""

    models_dir: Path | None
    engine: str
    precision: str
    venue: Venue

    def ready(
        self, model: str, rows: Mapping[str, RowPath], loaded: Sequence[PlacedModel]
    ) -> dict[str, PlacedModel]:
        """The artifact called `model`, verified, running and warm, placed on each symbol's `rows`.

        What one of `loaded` holds already is shared, not loaded again. May take seconds, on any thread.
        Raises ArtifactError where it does not verify or run, InputError where a symbol's rows do not suit it.
        """
        with _short_turns():
            artifact = load_named(model, self.models_dir)
            for symbol, path in rows.items():
                try:
                    require_window_of(artifact, path)
                except InputError as error:
                    raise InputError(f"{symbol}: {error}") from error
            same = (one for one in loaded if one.artifact.manifest == artifact.manifest)
            engine: str | Engine = next((one.engine for one in same), self.engine)
            pipeline = Pipeline.create(
                artifact, _INSTRUMENT, engine=engine, precision=self.precision, venue=self.venue
            )
            warm_up(pipeline)
            return {
                symbol: PlacedModel(artifact=artifact, engine=pipeline.engine.another(path.window))
                for symbol, path in rows.items()
            }


@contextmanager
def _short_turns() -> Iterator[None]:
    """Give the interpreter's lock back soon; one thread at a time does this, and its caller sees to that."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, TURN_S))
    try:
        yield
    finally:
        sys.setswitchinterval(before)
