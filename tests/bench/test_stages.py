"""Each stage's samples come of real calls: state moves on, and what is no tick's work is left out."""

from collections.abc import Callable
from itertools import islice

import numpy as np
import pytest

from bench.frame_source import FrameSource, seeded_source
from bench.stages import NOT_KEPT, BookStage, DecodeStage, FeaturesStage, Stage
from lob.errors import InputError
from lob.rows import RowPath
from lob.venues import make_decoder

STAGES: dict[str, Callable[[FrameSource], Stage]] = {
    "decode": DecodeStage,
    "book": BookStage,
    "features": lambda source: FeaturesStage(source, "top_changed", 100),
}


def path_after(source: FrameSource, frames: int) -> RowPath:
    path = RowPath(make_decoder(source.venue), source.instrument)
    for receive_ns, frame in islice(source.passes(), frames):
        path.on_frame(frame, receive_ns)
    return path


@pytest.mark.parametrize("name", STAGES)
def test_every_call_of_a_stage_is_a_sample(name: str) -> None:
    stage = STAGES[name](seeded_source(0))
    durations_ns = np.full(300, -1, dtype=np.int64)
    stage.measure(durations_ns)
    assert durations_ns.min() > 0
    assert stage.name == name
    assert stage.method


@pytest.mark.parametrize("name", STAGES)
def test_only_changes_of_the_book_are_kept(name: str) -> None:
    stage = STAGES[name](seeded_source(0))
    snapshot, *deltas = islice(seeded_source(0).passes(), 11)
    assert stage.tick(snapshot.frame, snapshot.receive_ns) == NOT_KEPT
    assert min(stage.tick(delta.frame, delta.receive_ns) for delta in deltas) > 0


@pytest.mark.parametrize("name", STAGES)
def test_a_capture_that_ends_starts_again(name: str, make_short_source: Callable[[int], FrameSource]) -> None:
    stage = STAGES[name](make_short_source(8))
    durations_ns = np.full(50, -1, dtype=np.int64)
    stage.measure(durations_ns)
    assert durations_ns.min() > 0


def test_the_book_stage_ends_with_the_book_of_its_frames() -> None:
    stage = BookStage(seeded_source(2))
    stage.measure(np.zeros(100, dtype=np.int64))
    stage.measure(np.zeros(57, dtype=np.int64))
    path = path_after(seeded_source(2), 158)  # the snapshot, and a frame a sample
    assert stage.book.update_id == path.update_id
    assert stage.book.printed(50) == path.book.printed(50)


def test_the_features_stage_writes_the_rows_of_its_frames() -> None:
    stage = FeaturesStage(seeded_source(4), "top_changed", 100)
    stage.measure(np.zeros(157, dtype=np.int64))
    path = path_after(seeded_source(4), 158)
    assert stage._ring.window().tobytes() == path.window.window().tobytes()
    assert stage._ring.window().all(axis=0).any()


@pytest.mark.parametrize("name", ["book", "features"])
def test_frames_that_give_nothing_to_do_are_refused(
    name: str, make_short_source: Callable[[int], FrameSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.stages.FRUITLESS_FRAMES", 20)
    stage = STAGES[name](make_short_source(1))  # snapshots alone
    with pytest.raises(InputError, match=f"{name}: none of .* frames of a short capture"):
        stage.measure(np.zeros(5, dtype=np.int64))
