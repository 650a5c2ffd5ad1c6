"""The hot path of one symbol: frame bytes in, a calibrated prediction out, or None.

    frame -> lob.rows (decode, sequence, book, feature row, window) -> engine -> calibration -> prediction

This is the only composition of these steps with a model; the live feed, the replay and the benchmarks all
call it. With the engine `fused` all from the frame's bytes (or a decoded change) to the probabilities is
one jitted call; a `staged` pipeline takes the same steps one after the other, and gives the same bits. It
holds no clock (time is an argument) and does no I/O. What a frame does to the symbol's state is decided by
`lob.sync.SymbolLifecycle`; here it is only told what happened.
"""

from inference.artifact import Artifact
from inference.calibration import Calibration
from inference.engines.engine import Engine
from inference.engines.fused import FusedEngine
from inference.engines.selection import create_engine
from inference.fused.step_batch import StepBatch
from inference.fused.tick import FINITE
from inference.prediction import Prediction, predicted_horizons
from lob.errors import InputError
from lob.instrument import Instrument
from lob.off_grid import off_grid_price, off_grid_text
from lob.row_status import RowStatus
from lob.rows import RowPath
from lob.sync import LifecycleEvent, SymbolLifecycle, SymbolState
from lob.venues import make_decoder

DEFAULT_STALL_MS = 5_000

_LOST = {
    RowStatus.GAP: LifecycleEvent.GAP,
    RowStatus.REFUSED: LifecycleEvent.REFUSED,
    RowStatus.CROSSED: LifecycleEvent.CROSSED,
    RowStatus.MALFORMED: LifecycleEvent.MALFORMED,
    RowStatus.OVERFLOW: LifecycleEvent.OVERFLOW,
}
# An enumeration's members are slow to look up.
_ROW, _SNAPSHOT, _IGNORED, _ONE_SIDED = (
    RowStatus.ROW,
    RowStatus.SNAPSHOT,
    RowStatus.IGNORED,
    RowStatus.ONE_SIDED,
)
_LIVE = SymbolState.LIVE
_FRESH_WITHOUT_ROW = frozenset({RowStatus.NO_ROW, RowStatus.ONE_SIDED})


def require_rows_of(artifact: Artifact, rows: RowPath) -> None:
    """Raise InputError where `rows` are not what the model of `artifact` was trained on."""
    for field, came, allowed in (
        ("schema", rows.schema.name, artifact.schema.name),
        ("sampling", rows.sampling, artifact.manifest.sampling),
    ):
        if came != allowed:
            raise InputError(f"{field}: {came!r} came, model {artifact.name} allows {allowed!r}")


class Pipeline:
    """One symbol's way from frames to predictions. Not for two threads at once.

    A prediction leaves only while the state is LIVE: book in sequence, both sides there, not crossed, fresh,
    engine warm, logits finite. Whatever ends that drops the book, and a new snapshot starts book, rows and
    engine from nothing. The caller says when the connection comes and goes, asks the venue for a snapshot
    when `needs_resync` is set, and calls `check_freshness` on a timer.
    """

    def __init__(
        self,
        rows: RowPath,
        engine: Engine,
        artifact: Artifact,
        *,
        stall_ms: int = DEFAULT_STALL_MS,
        staged: bool = False,
    ) -> None:
        """Compose `rows` and an `engine` made for `rows.window`.

        `stall_ms`: without a book message for so long the feed counts as stalled. `staged`: push every row
        into the engine, also where it could go on within the call that makes the row. Raises InputError where
        rows are not what the artifact was trained on, or `stall_ms` is below 1.
        """
        require_rows_of(artifact, rows)
        if stall_ms < 1:
            raise InputError(f"stall_ms: {stall_ms} came; allowed: 1 or more")
        self.rows = rows
        self.symbol = rows.symbol
        self.lifecycle = SymbolLifecycle()
        self.state_revision = 0
        """Rises with every change of `state` or `reason`, so that a caller can tell subscribers."""
        self.off_grid_price = ""
        """The price off the tick grid that the book was lost by, as printed; empty once a snapshot held."""
        self._staged = staged
        self._run_with(engine, artifact)
        self._stall_ms = stall_ms
        self._fresh_ns: int | None = None
        self._predictions = self._not_finite = self._stalls = self._late = 0

    @classmethod
    def create(
        cls,
        artifact: Artifact,
        instrument: Instrument,
        *,
        engine: str | Engine = "auto",
        precision: str = "float32",
        venue: str = "bybit",
        depth: int | None = None,
        stall_ms: int = DEFAULT_STALL_MS,
        staged: bool = False,
    ) -> "Pipeline":
        """A pipeline for `artifact` on `instrument`'s book, with its own rows and engine.

        `engine`: the name of one, or the engine of another symbol's pipeline of this artifact, whose weights,
        session and compiled code this one's shares. `precision`: the number format that a named one answers
        in. `depth`: see `lob.rows.RowPath`. `staged`: decode every frame, then take step by step what is one
        call otherwise. Raises InputError and ArtifactError as the parts do.
        """
        manifest = artifact.manifest
        rows = RowPath(
            make_decoder(venue),
            instrument,
            artifact.schema,
            manifest.sampling,
            manifest.window_length,
            depth=depth,
            scan=not staged,
        )
        if isinstance(engine, str):
            made = create_engine(engine, artifact, rows.window, precision=precision)
        else:
            made = engine.another(rows.window)
        return cls(rows, made, artifact, stall_ms=stall_ms, staged=staged)

    def switch_to(self, engine: Engine, artifact: Artifact) -> None:
        """Let another model answer from the next row on; called between two frames.

        `engine` is made for this pipeline's window, and has taken the rows it holds or is reset: what it has
        not seen does not count for it (`inference.follower` brings it there). Raises InputError, and changes
        nothing, where rows are not what the artifact was trained on.
        """
        require_rows_of(artifact, self.rows)
        self._run_with(engine, artifact)

    @property
    def artifact(self) -> Artifact:
        """The model that answers."""
        return self._artifact

    @property
    def engine(self) -> Engine:
        """What runs that model."""
        return self._engine

    @property
    def precision(self) -> str:
        """The number format in which the engine answers."""
        return self._precision

    @property
    def state(self) -> SymbolState:
        """What predictions are worth now."""
        return self.lifecycle.state

    @property
    def reason(self) -> str:
        """Why the state is what it is; empty while LIVE."""
        return self.lifecycle.reason

    @property
    def needs_resync(self) -> bool:
        """Whether the caller has to ask the venue for a new snapshot."""
        return self.lifecycle.needs_resync

    @property
    def counters(self) -> dict[str, int]:
        """Frames by `RowStatus`, predictions made, non-finite logits, stalls, times too late."""
        return {
            **self.rows.counters,
            "predictions": self._predictions,
            "not_finite": self._not_finite,
            "stalls": self._stalls,
            "late": self._late,
        }

    def on_frame(self, frame: bytes, receive_ns: int) -> Prediction | None:
        """Take one frame in, received at `receive_ns`; answer a prediction if it gave a row and all is well.

        The prediction's `emit_ns` is 0 until its sender calls `stamp`.
        """
        status = self.rows.on_frame(frame, receive_ns)
        if status is _ROW or status is _SNAPSHOT:
            self._fresh_ns = receive_ns
            if status is _SNAPSHOT:
                self._begin_book()
            return self._on_answer(self._answer(), receive_ns)
        self._on_no_row(status, receive_ns)
        return None

    def take(self, frame: bytes, receive_ns: int, batch: StepBatch) -> bool:
        """`on_frame` up to the model's step, which is left to `batch` together with other symbols'.

        Answers whether the frame gave a row: then `finish` has to be called with the step's outcome before
        anything else. For a pipeline with a `seat` in that batch.
        """
        status = self.rows.on_frame(frame, receive_ns, go_on=False)
        if status is _ROW or status is _SNAPSHOT:
            self._fresh_ns = receive_ns
            if status is _SNAPSHOT:
                self._begin_book()
            assert self.seat is not None, "a pipeline without a seat takes its steps alone"
            assert not self.rows.outcome, "the row has not been stepped with yet"
            batch.put(self.seat, self.rows.window.position)
            return True
        self._on_no_row(status, receive_ns)
        return False

    def finish(self, outcome: int, receive_ns: int) -> Prediction | None:
        """What `on_frame` answers, after `take` and the step of the batch that came to `outcome`."""
        assert self._one_call is not None, "only a fused engine steps in a batch"
        return self._on_answer(outcome == FINITE if self._one_call.count_row() else None, receive_ns)

    def _on_no_row(self, status: RowStatus, receive_ns: int) -> None:
        rows = self.rows
        if status in _FRESH_WITHOUT_ROW:
            self._fresh_ns = receive_ns
            if status is _ONE_SIDED:
                self._on_one_sided()
        elif status in _LOST:
            self._on_lost(status)
        elif status is _IGNORED and rows.held_snapshot:
            self._fresh_ns = receive_ns  # the book is as it was; an old change says nothing of the kind

    def on_connected(self) -> None:
        """A connection to the venue is there and subscribed; nothing from before it counts."""
        self.rows.reset()
        self._fresh_ns = None
        self._happened(LifecycleEvent.CONNECTED)

    def on_disconnected(self, reason: str = "") -> None:
        """The connection is lost; `reason` is told to subscribers."""
        self.rows.reset()
        self._happened(LifecycleEvent.DISCONNECTED, reason)

    def resync_requested(self) -> None:
        """The caller has asked the venue for a new snapshot; it is given `stall_ms` from here to come."""
        self._fresh_ns = None
        self.lifecycle.resync_requested()

    def check_freshness(self, now_ns: int) -> bool:
        """Notice a stalled feed at `now_ns`, a time like `receive_ns`; answer whether the state changed.

        While connected and without a book message for `stall_ms` the book is dropped and `needs_resync`
        rises; it rises again after as long without an answer.
        """
        if self.state is SymbolState.CONNECTING:
            return False
        if self._fresh_ns is None:
            self._fresh_ns = now_ns
        if now_ns - self._fresh_ns < self._stall_ms * 1_000_000:
            return False
        self._fresh_ns = now_ns
        self._stalls += 1
        self.rows.reset()
        return self._happened(LifecycleEvent.STALLED, f"no book message for {self._stall_ms} ms")

    def on_late(self, detail: str) -> bool:
        """The caller finds the feed too late, `detail` says by how much; the book is dropped.

        Answers whether the state changed; `needs_resync` rises.
        """
        self._late += 1
        self.rows.reset()
        return self._happened(LifecycleEvent.LATE, detail)

    def _run_with(self, engine: Engine, artifact: Artifact) -> None:
        manifest = artifact.manifest
        self._artifact = artifact
        self._model_name, self._model_version = manifest.name, manifest.version
        self._calibration = Calibration(manifest.temperatures, len(manifest.classes))
        self._horizons = manifest.horizons
        self._engine = engine
        self._engine_name = engine.name
        self._precision = str(engine.describe()["precision"])
        self._one_call = engine if isinstance(engine, FusedEngine) and not self._staged else None
        one_call, rows = self._one_call, self.rows
        self.seat = None if one_call is None else one_call.seat(rows.window, self._calibration)
        """Where a batch of several symbols' steps finds this one's memory; None where it steps alone."""
        rows.go_on_with(None if one_call is None else one_call.sequel(self._calibration, scans=rows.scans))

    def _begin_book(self) -> None:
        """The first row of a new book is there: the engine starts anew with it."""
        self._engine.reset()
        self._happened(LifecycleEvent.SNAPSHOT)

    def _on_answer(self, finite: bool | None, receive_ns: int) -> Prediction | None:
        """The prediction of the newest row, whose probabilities the calibration holds; see `_answer`."""
        rows = self.rows
        if finite is None:
            return None
        if not finite:
            self._not_finite += 1
            rows.reset()
            self._happened(LifecycleEvent.NOT_FINITE)
            return None
        if self.lifecycle.state is not _LIVE and not self._happened(LifecycleEvent.ENGINE_WARM):
            return None
        self._predictions += 1
        return Prediction(
            symbol=self.symbol,
            model=self._model_name,
            model_version=self._model_version,
            engine=self._engine_name,
            precision=self._precision,
            update_id=rows.update_id,
            exchange_ms=rows.exchange_ms,
            receive_ns=receive_ns,
            emit_ns=0,
            latency_us=0.0,
            mid=rows.row_mid,
            horizons=predicted_horizons(self._calibration, self._horizons),
        )

    def _answer(self) -> bool | None:
        """Whether the calibration holds the newest row's probabilities; None while the engine warms up.

        False where a logit is not finite. The call that made the row may have gone on with it already.
        """
        outcome = self.rows.outcome
        if outcome and self._one_call is not None:
            return outcome == FINITE if self._one_call.count_row() else None
        logits = self._engine.push(self.rows.window.latest())
        return None if logits is None else self._calibration.apply(logits)

    def _on_lost(self, status: RowStatus) -> None:
        rows, detail = self.rows, ""
        if status is RowStatus.MALFORMED:
            self.off_grid_price = off_grid_price(rows.message, rows.instrument)
            detail = off_grid_text(self.off_grid_price, rows.instrument)
        self._happened(_LOST[status], detail)

    def _on_one_sided(self) -> None:
        """A sound book with an empty side. Where none was there before, a snapshot brought it."""
        if self.lifecycle.state not in {SymbolState.WARMING, SymbolState.LIVE}:
            self._happened(LifecycleEvent.SNAPSHOT)
        self._happened(LifecycleEvent.ONE_SIDED)

    def _happened(self, event: LifecycleEvent, detail: str = "") -> bool:
        if event is LifecycleEvent.SNAPSHOT:
            self.off_grid_price = ""
        changed = self.lifecycle.on(event, detail)
        self.state_revision += changed
        return changed
