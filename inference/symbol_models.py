"""The models of one symbol: the one that answers, one that is about to, and one that answers in the shadow.

All on the thread of the pipeline, and only `note` within the time of a tick. A model that is to take over
follows the rows between frames until it has caught up and answers, and then takes the other's place between
two frames; until then the other goes on. A model in the shadow follows for good: for every prediction that is
published its own of the same row is handed on, and published nowhere.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import msgspec
import numpy as np

from inference.artifact import Artifact
from inference.calibration import Calibration
from inference.engines.engine import Engine, Logits
from inference.follower import Follower
from inference.pipeline import Pipeline
from inference.prediction import Prediction, predicted_horizons
from lob.sync import SymbolState

ShadowSink: TypeAlias = Callable[[Prediction, Prediction], None]
"""Takes the published prediction of a row, and the shadow's own of the same row."""


@dataclass(frozen=True, kw_only=True)
class PlacedModel:
    """A model and the engine that runs it for one symbol."""

    artifact: Artifact
    engine: Engine

    @property
    def title(self) -> str:
        """`name@version`."""
        return f"{self.artifact.name}@{self.artifact.manifest.version}"


@dataclass
class ShadowCounters:
    """What became of the rows that were answered while a model was in the shadow."""

    answered: int = 0
    agreed: int = 0
    """Answers whose directions are those published, at every horizon both models have."""
    unanswered: int = 0
    """Rows it was not warm for, or that had left the window before it took them."""
    not_finite: int = 0


class Shadow:
    """A model that follows a pipeline and answers beside it."""

    def __init__(self, pipeline: Pipeline, placed: PlacedModel, sink: ShadowSink) -> None:
        manifest = placed.artifact.manifest
        self.placed = placed
        self.counters = ShadowCounters()
        self.follower = Follower(pipeline.rows, placed.engine, placed.artifact)
        self._rows = pipeline.rows
        self._precision = str(placed.engine.describe()["precision"])
        self._calibration = Calibration(manifest.temperatures, len(manifest.classes))
        self._pending: deque[tuple[int, Prediction]] = deque()
        self._sink = sink

    def note(self, prediction: Prediction) -> None:
        """A prediction was published, of the newest row."""
        pending = self._pending
        if len(pending) == self._rows.window.length:  # its row has left the window
            pending.popleft()
            self.counters.unanswered += 1
        pending.append((self._rows.taken, prediction))

    def advance(self, most_rows: int) -> int:
        """Take at most `most_rows` rows and hand its answers on; answers how many rows remain."""
        follower = self.follower
        behind = follower.behind
        while most_rows > 0 and behind > 0:
            behind = follower.catch_up(1)
            most_rows -= 1
            self._answer()
        return behind

    def _answer(self) -> None:
        """Hand on the answer to the row just taken, if its prediction was published."""
        pending, taken = self._pending, self.follower.taken
        while pending and pending[0][0] < taken:
            pending.popleft()
            self.counters.unanswered += 1
        if not pending or pending[0][0] != taken:
            return
        _, published = pending.popleft()
        logits = self.follower.newest_logits
        if logits is None:
            self.counters.unanswered += 1
        elif not self._calibration.apply(logits):
            self.counters.not_finite += 1
        else:
            self._hand_on(published)

    def _hand_on(self, published: Prediction) -> None:
        manifest = self.placed.artifact.manifest
        horizons = predicted_horizons(self._calibration, manifest.horizons)
        self.counters.answered += 1
        directions = {one.horizon: one.direction for one in published.horizons}
        self.counters.agreed += all(
            one.direction == directions.get(one.horizon, one.direction) for one in horizons
        )
        own = msgspec.structs.replace(
            published,
            model=manifest.name,
            model_version=manifest.version,
            engine=self.placed.engine.name,
            precision=self._precision,
            emit_ns=0,
            latency_us=0.0,
            horizons=horizons,
        )
        self._sink(published, own)


class SymbolModels:
    """One pipeline's models. What changes them is called between two frames, as is `advance`."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.watching = False
        """Whether `note` and `advance` have anything to do."""
        self.serving = PlacedModel(artifact=pipeline.artifact, engine=pipeline.engine)
        self.previous: PlacedModel | None = None
        """The model that answered before this one, ready to take over again."""
        self.incoming: PlacedModel | None = None
        self.shadow: Shadow | None = None
        self.retired: list[PlacedModel] = []
        """Models that have no place any more; whoever clears the list frees what they hold."""
        self.wake: Callable[[], None] = _nothing
        """Called at every frame while `watching`: `advance` has something to do then."""
        self.switches = 0
        self.refusal = ""
        """Why the last model that was to take over did not; empty where it did, or still may."""
        self._follower: Follower | None = None

    def take_over(self, placed: PlacedModel) -> None:
        """Let `placed` take over as soon as it has caught up; one that was about to is given up.

        Raises InputError, and changes nothing, where the rows do not suit it.
        """
        self._require_free(placed)
        follower = Follower(self.pipeline.rows, placed.engine, placed.artifact)
        self._retire(self.incoming)
        self.incoming, self._follower, self.refusal = placed, follower, ""
        self._look()

    def give_up(self, reason: str) -> None:
        """Let nothing take over, for `reason`."""
        self._retire(self.incoming)
        self.incoming = self._follower = None
        self.refusal = reason
        self._look()

    def begin_shadow(self, placed: PlacedModel, sink: ShadowSink) -> None:
        """Let `placed` answer in the shadow, in place of any other; raises InputError as `take_over`."""
        self._require_free(placed)
        shadow = Shadow(self.pipeline, placed, sink)
        self.end_shadow()
        self.shadow = shadow
        self._look()

    def end_shadow(self) -> None:
        """Let nothing answer in the shadow."""
        if self.shadow is not None:
            self._retire(self.shadow.placed)
        self.shadow = None
        self._look()

    def note(self, published: Prediction | None) -> None:
        """A frame was taken in; `published` is the prediction of its row, None where none was published."""
        if self.shadow is not None and published is not None:
            self.shadow.note(published)
        self.wake()

    def advance(self, most_rows: int) -> bool:
        """Between two frames: take at most `most_rows` rows with each model; answers whether more wait.

        The model that is to take over does so here, once it has caught up and answers; where the symbol is
        not LIVE, nothing is answered anyway, and it does so once it has caught up. One that answers with what
        is no number does not: `refusal` says so.
        """
        behind = 0
        if self._follower is not None:
            behind = self._follower.catch_up(most_rows)
            if not behind:
                self._switch_if_ready(self._follower.logits)
        if self.shadow is not None:
            behind = max(behind, self.shadow.advance(most_rows))
        return behind > 0

    @property
    def behind(self) -> int:
        """How many rows of the window the model that is furthest behind has not seen."""
        incoming = 0 if self._follower is None else self._follower.behind
        return max(incoming, 0 if self.shadow is None else self.shadow.follower.behind)

    def placed(self) -> list[PlacedModel]:
        """Whatever has a place, the model that answers first."""
        shadow = None if self.shadow is None else self.shadow.placed
        places = (self.serving, self.previous, self.incoming, shadow)
        return [placed for placed in places if placed is not None]

    def _switch_if_ready(self, logits: Logits | None) -> None:
        """Switch to the incoming model, which has seen all rows and answers the newest with `logits`."""
        incoming = self.incoming
        assert incoming is not None, "whoever follows to take over is the incoming model"
        if logits is None and self.pipeline.state is SymbolState.LIVE:
            return
        if logits is not None and not np.isfinite(logits).all():
            self.give_up(f"model {incoming.title} answers with values that are not finite")
            return
        self.pipeline.switch_to(incoming.engine, incoming.artifact)
        before, self.previous, self.serving = self.previous, self.serving, incoming
        if before is not incoming:
            self._retire(before)
        self.incoming = self._follower = None
        self.switches += 1
        self._look()

    def _retire(self, placed: PlacedModel | None) -> None:
        """Set aside what has lost its place; the previous model keeps its own."""
        if placed is not None and placed is not self.previous:
            self.retired.append(placed)

    def _require_free(self, placed: PlacedModel) -> None:
        """An engine has one state: it cannot follow the rows twice."""
        shadow = None if self.shadow is None else self.shadow.placed
        taken = [one.engine for one in (self.serving, self.incoming, shadow) if one is not None]
        assert not any(placed.engine is engine for engine in taken), "each place has an engine of its own"

    def _look(self) -> None:
        self.watching = self.incoming is not None or self.shadow is not None


def _nothing() -> None:
    """Nobody is to be woken."""
