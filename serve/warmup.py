"""What is slow the first time, done before the first real frame: kernels compiled, the session warm."""

from collections.abc import Iterator
from itertools import islice

import msgspec

from inference.artifact import Artifact
from inference.pipeline import Pipeline
from lob.errors import ArtifactError
from lob.instrument import Instrument
from lob.rows import RowPath
from lob.venues import make_decoder

PREDICTIONS = 64
MAXIMUM_FRAMES = 10_000

_SYMBOL = "REHEARSAL"


def warm_up(pipeline: Pipeline, artifact: Artifact) -> int:
    """Bring `pipeline` to its usual speed; answers how many predictions that took.

    Made-up frames go through a second pipeline of the same kind, which compiles every kernel, and the rows
    they give go through the engine of the first, which warms its session. `pipeline` itself sees no frame:
    book, counters and state stay as they are. Raises ArtifactError for a model that does not answer.
    """
    instrument = Instrument(symbol=_SYMBOL, tick_size="0.10")
    rehearsal = Pipeline.create(artifact, instrument, engine=pipeline.engine)
    rehearsal.on_connected()
    rehearsed, ring = rehearsal.rows.window, pipeline.rows.window
    predictions = 0
    for number, frame in enumerate(_frames()):
        position, count = rehearsed.position, rehearsed.count
        predictions += rehearsal.on_frame(frame, number) is not None
        if (rehearsed.position, rehearsed.count) != (position, count):
            ring.append(rehearsed.latest())
            pipeline.engine.push(ring.latest())
        if predictions == PREDICTIONS:
            break
    pipeline.engine.reset()
    pipeline.rows.reset()
    if predictions < PREDICTIONS:
        raise ArtifactError(
            f"model {artifact.name}: {predictions} predictions came of {MAXIMUM_FRAMES} made-up frames "
            f"(state {rehearsal.state.value}: {rehearsal.reason}), {PREDICTIONS} are expected"
        )
    return predictions


def warm_up_rows() -> None:
    """Compile the kernels from frames to rows, for a process that runs no model."""
    rows = RowPath(make_decoder("bybit"), Instrument(symbol=_SYMBOL, tick_size="0.10"))
    for number, frame in enumerate(islice(_frames(), 8)):
        rows.on_frame(frame, number)


def _frames() -> Iterator[bytes]:
    """A snapshot of 20 levels a side, then changes of size, deletes and inserts at and near the touch."""
    bids = [[f"{100 - 0.1 * level:.1f}", "1.5"] for level in range(20)]
    asks = [[f"{100.1 + 0.1 * level:.1f}", "2.5"] for level in range(20)]
    yield _frame("snapshot", 1_000, bids, asks)
    for number in range(1, MAXIMUM_FRAMES):
        gone = number % 4 == 0
        bid = ["100.0" if number % 2 else "99.7", f"{1 + number % 7}.25"]
        ask = ["100.1", "0" if gone else f"{1 + number % 5}.5"]
        yield _frame("delta", 1_000 + number, [bid], [ask])


def _frame(kind: str, update_id: int, bids: list[list[str]], asks: list[list[str]]) -> bytes:
    return msgspec.json.encode(
        {
            "topic": f"orderbook.50.{_SYMBOL}",
            "type": kind,
            "ts": update_id,
            "data": {"s": _SYMBOL, "b": bids, "a": asks, "u": update_id, "seq": update_id},
            "cts": update_id,
        }
    )
