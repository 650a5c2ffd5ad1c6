"""The one place where a pipeline and the hub meet: frames in, predictions and states out."""

from inference.pipeline import Pipeline
from inference.prediction import Prediction
from inference.symbol_models import SymbolModels
from lob.sync import SymbolState
from lob.trade_tape import TradeTape
from serve.feed_policies import LagPolicy
from serve.hub import Hub
from serve.lateness import Lateness
from serve.venue_connection import ConnectionEndedError

_AWAITS_SNAPSHOT = frozenset({SymbolState.WAITING_SNAPSHOT, SymbolState.STALE})


class PredictionPublisher:
    """Feeds one symbol's pipeline and publishes what comes of it; a `serve.frame_consumer.FrameConsumer`.

    A change of state is told before the prediction that goes with it, so that subscribers never see one
    outside LIVE. A prediction of a frame that is too late is not published: the book counts as lost, and
    where a new snapshot does not help, the connection does. `lag` None asks no frame how late it is, as where
    frames do not come off a socket. `tape` holds the symbol's trades; each book message takes those up to
    its time off it, and no feature reads them yet.
    """

    keeps_book = True

    def __init__(
        self, pipeline: Pipeline, hub: Hub, *, lag: LagPolicy | None = None, tape: TradeTape | None = None
    ) -> None:
        self.models = SymbolModels(pipeline)
        """The pipeline's models; they follow its rows once each has been published."""
        self._pipeline = pipeline
        self._hub = hub
        self._lateness = None if lag is None else Lateness(lag)
        self._tape = tape
        self._was_late = False
        self._told_revision = pipeline.state_revision
        self._stopped = False

    @property
    def pipeline(self) -> Pipeline:
        """What takes the frames in."""
        return self._pipeline

    @property
    def needs_resync(self) -> bool:
        """Whether the book is lost and a new snapshot has not been asked for."""
        return self._pipeline.needs_resync

    @property
    def awaits_snapshot(self) -> bool:
        """Whether nothing can be made of the stream until a snapshot comes."""
        return self._pipeline.state in _AWAITS_SNAPSHOT

    @property
    def reason(self) -> str:
        """Why the state is what it is, as subscribers are told."""
        return self._pipeline.reason

    @property
    def unreadable_frames(self) -> int:
        """Frames that are no JSON, or book messages with levels that cannot be read."""
        return self._pipeline.rows.unreadable

    def on_frame(self, frame: bytes, receive_ns: int) -> None:
        """Take a frame in; publish its prediction if it gave one.

        Raises ConnectionEndedError where the feed is late again, right after a new snapshot.
        """
        self.on_prediction(self._pipeline.on_frame(frame, receive_ns), receive_ns)

    def on_prediction(self, prediction: Prediction | None, receive_ns: int) -> None:
        """The pipeline took a frame received at `receive_ns` in, and this is what it answered.

        Publishes what is to be; raises as `on_frame`.
        """
        pipeline = self._pipeline
        if self._tape is not None:
            self._tape.take(pipeline.rows.exchange_ms)
        if prediction is not None and self._lateness is not None:
            late = self._lateness.verdict(prediction.exchange_ms, receive_ns, self._hub.clock.now_ns())
            if late:
                prediction = None
                self._on_late(late)
            elif self._was_late:
                self._was_late = False
        if pipeline.state_revision != self._told_revision:
            self._tell()
        if prediction is not None and not self._stopped:
            self._hub.publish(prediction)
        if self.models.watching:
            self.models.note(prediction)

    def on_unnamed_frame(self, frame: bytes, receive_ns: int, *, readable: bool) -> None:
        """Count it: it is nothing to a book."""
        self._pipeline.rows.count_unnamed(readable=readable)

    def on_connected(self) -> None:
        """A new connection stands."""
        if self._lateness is not None:
            self._lateness.reset()
        self._was_late = False
        self._pipeline.on_connected()
        self._tell()

    def on_disconnected(self, reason: str) -> None:
        """The connection is lost."""
        self._pipeline.on_disconnected(reason)
        self._tell()

    def check_freshness(self, now_ns: int) -> None:
        """Let the pipeline notice a stalled feed."""
        if self._pipeline.check_freshness(now_ns):
            self._tell()

    def resync_requested(self) -> None:
        """A new snapshot has been asked for."""
        self._pipeline.resync_requested()

    def stop(self, reason: str) -> None:
        """Publish a last state, STALE for `reason`, and nothing after it."""
        if not self._stopped:
            self._stopped = True
            self._hub.publish_state(self._pipeline.symbol, SymbolState.STALE, reason)

    def _on_late(self, late: str) -> None:
        """Drop the book; the second time in a row, the connection: its buffers hold what is late."""
        self._pipeline.on_late(late)
        if self._was_late:
            self._tell()
            raise ConnectionEndedError(f"{self._pipeline.symbol} is late {late}, after a new snapshot too")
        self._was_late = True

    def _tell(self) -> None:
        """Publish the pipeline's state if it is another than the one last told."""
        pipeline = self._pipeline
        if pipeline.state_revision != self._told_revision and not self._stopped:
            self._told_revision = pipeline.state_revision
            self._hub.publish_state(pipeline.symbol, pipeline.state, pipeline.reason)
