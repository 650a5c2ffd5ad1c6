"""The one place where a pipeline and the hub meet: frames in, predictions and states out."""

from inference.pipeline import Pipeline
from lob.sync import SymbolState
from serve.hub import Hub

_AWAITS_SNAPSHOT = frozenset({SymbolState.WAITING_SNAPSHOT, SymbolState.STALE})


class PredictionPublisher:
    """Feeds one symbol's pipeline and publishes what comes of it; a `serve.feed.FrameConsumer`.

    A change of state is told before the prediction that goes with it, so that subscribers never see one
    outside LIVE.
    """

    def __init__(self, pipeline: Pipeline, hub: Hub) -> None:
        self._pipeline = pipeline
        self._hub = hub
        self._told_revision = pipeline.state_revision
        self._stopped = False

    @property
    def needs_resync(self) -> bool:
        """Whether the book is lost and a new snapshot has not been asked for."""
        return self._pipeline.needs_resync

    @property
    def awaits_snapshot(self) -> bool:
        """Whether nothing can be made of the stream until a snapshot comes."""
        return self._pipeline.state in _AWAITS_SNAPSHOT

    def on_frame(self, frame: bytes, receive_ns: int) -> None:
        """Take a frame in; publish its prediction if it gave one."""
        pipeline = self._pipeline
        prediction = pipeline.on_frame(frame, receive_ns)
        if pipeline.state_revision != self._told_revision:
            self._tell()
        if prediction is not None and not self._stopped:
            self._hub.publish(prediction)

    def on_connected(self) -> None:
        """A new connection stands."""
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

    def _tell(self) -> None:
        """Publish the pipeline's state if it is another than the one last told."""
        pipeline = self._pipeline
        if pipeline.state_revision != self._told_revision and not self._stopped:
            self._told_revision = pipeline.state_revision
            self._hub.publish_state(pipeline.symbol, pipeline.state, pipeline.reason)
