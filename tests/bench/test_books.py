"""The books' subjects make real calls on the same messages; a book that differs is found."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pytest

from bench.book_comparison import WrongBookError, book_ratios, compare_books
from bench.books import CHANGES_A_SIDE, BookBestStage, BookSubjects, PeerStage, RowStage, make_book_subjects
from bench.harness import Plan, run_interleaved
from bench.peers.book_peer import installed_peers
from bench.report import Result
from bench.stages import BookStage, Stage

AnyStage = TypeVar("AnyStage", bound=Stage)

PLAN = Plan(count=20, warmup=5, block=8, lead_in=2)
PEERS, ABSENT = installed_peers()


def measured_subjects(depth: int = 50) -> BookSubjects:
    subjects = make_book_subjects(depth, PEERS, seed=3, frames=1 + PLAN.calls)
    run_interleaved(subjects.stages, PLAN)
    return subjects


def stage_of(subjects: BookSubjects, kind: type[AnyStage]) -> AnyStage:
    return next(stage for stage in subjects.stages if isinstance(stage, kind))


@pytest.mark.parametrize("depth", CHANGES_A_SIDE)
def test_every_subject_ends_with_our_book(depth: int) -> None:
    subjects = measured_subjects(depth)
    ours = stage_of(subjects, BookStage).book
    assert ours.update_id == 1 + PLAN.calls  # the snapshot, then a message a call
    assert len(ours.bids()[0]) == len(ours.asks()[0]) == depth
    with_a_book = [stage for stage in subjects.stages if stage.name != "decode"]
    assert compare_books(subjects.stages) == len(with_a_book) - 1


def test_subjects_are_named_as_results_name_them() -> None:
    subjects = measured_subjects()
    names = [stage.name for stage in subjects.stages]
    with_best = [f"{peer}-best" for peer in PEERS if peer != "pybit"]
    with_frame = [f"{peer}-frame" for peer in PEERS]
    assert names == ["book", *PEERS, "book-best", *with_best, "decode", "row", *with_frame]
    assert {stage.model for stage in subjects.stages} == {"depth50"}
    assert all(stage.method for stage in subjects.stages)


def test_all_read_the_same_frames_and_every_call_is_a_sample() -> None:
    subjects = make_book_subjects(50, PEERS, seed=3, frames=40)
    first, second = (list(subjects.source.passes()) for _ in range(2))
    assert all(one is other for one, other in zip(first, second, strict=True))
    for stage in subjects.stages:
        durations_ns = np.full(39, -1, dtype=np.int64)
        stage.measure(durations_ns)
        assert durations_ns.min() > 0


def test_frames_that_end_start_again_from_the_snapshot() -> None:
    subjects = make_book_subjects(50, PEERS, seed=3, frames=10)
    for stage in subjects.stages:
        stage.measure(np.zeros(14, dtype=np.int64))  # 9 changes, and 5 of the second pass
    assert stage_of(subjects, BookStage).book.update_id == 6
    compare_books(subjects.stages)


def _spoil_ours(subjects: BookSubjects) -> None:
    stage_of(subjects, BookStage).book.sizes[0, 0] += 0.001


def _spoil_the_best_stage(subjects: BookSubjects) -> None:
    stage_of(subjects, BookBestStage).book.keys[1, 7] -= 1


def _spoil_the_row_stage(subjects: BookSubjects) -> None:
    stage_of(subjects, RowStage).path.book.header[0] -= 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_spoil_ours, r" depth50: bids, level 50 is .*, ours "),
        (_spoil_the_best_stage, r"^book-best depth50: asks, level 43 is .*, ours "),
        (_spoil_the_row_stage, r"^row depth50: bids, level 1 is .*, ours "),
    ],
)
def test_a_level_that_differs_is_found(spoil: Callable[[BookSubjects], None], message: str) -> None:
    subjects = measured_subjects()
    spoil(subjects)
    with pytest.raises(WrongBookError, match=message):
        compare_books(subjects.stages)


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_whose_book_or_messages_differ_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    subjects = measured_subjects()
    peer = next(stage for stage in subjects.stages if stage.name == name)
    assert isinstance(peer, PeerStage)
    levels = peer.peer.levels
    with monkeypatch.context() as patch:
        patch.setattr(peer.peer, "levels", lambda: (levels()[0], levels()[1][:-1]))
        with pytest.raises(WrongBookError, match=f"^{name} depth50: asks, 49 levels, ours 50$"):
            compare_books(subjects.stages)
    assert 1 + PLAN.calls == 32
    peer.measure(np.zeros(1, dtype=np.int64))  # the frames start again
    with pytest.raises(WrongBookError, match=f"^{name} depth50: took 2 messages, ours 32$"):
        compare_books(subjects.stages)


def test_ratios_are_of_medians_within_a_depth() -> None:
    def result(subject: str, depth: int, p50: float) -> Result:
        model = f"depth{depth}"
        return Result(
            subject=subject, model=model, precision="", unit="us", count=1,
            p50=p50, p90=p50, p99=p50, p999=p50, max=p50,
        )  # fmt: skip

    lines = book_ratios(
        [
            result("book", 50, 2.0),
            result("pybit", 50, 30.0),
            result("sorteddict", 50, 5.0),
            result("row", 50, 4.0),
            result("pybit-frame", 50, 2.0),
            result("book", 200, 4.0),
            result("c-order-book", 200, 10.0),
            result("book-best", 200, 4.0),
        ]
    )
    assert lines == [
        "p50 over that of book, depth50: pybit 15.00, sorteddict 2.50",
        "p50 over that of book, depth200: c-order-book 2.50",
        "p50 over that of row, depth50: pybit-frame 0.50",
    ]
