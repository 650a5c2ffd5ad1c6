"""A million random messages through the pipeline and a dictionary book, faults among them.

After every message: the whole book is the dictionaries', the state is what the dictionaries say it must be,
and a prediction leaves only on a book that is sound.
"""

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from inference.artifact import Artifact
from inference.prediction import Prediction
from lob.sync import SymbolState
from tests.inference.test_pipeline import FAULTS, Session

SESSIONS = 50
MESSAGES_A_SESSION = 20_000
FAULT_CHANCE = 0.02
REPAIR_CHANCE = 0.15

OFTEN_HARMLESS = {
    "snapshot",
    "not_json",
    "resend",
    "other_symbol",
    "pong",
    "resync",
    "cut_delta",
    "one_sided",
}
"""Faults after which the book is as sound as before, or still is until the next message shows the loss."""


class LongSession(Session):
    """A session that counts, and compares whole books."""

    def __init__(self, artifact: Artifact, engine: str, seed: int) -> None:
        super().__init__(artifact, engine, seed)
        self.messages = self.made = 0

    def feed(self, frame: bytes) -> Prediction | None:
        self.messages += 1
        prediction = super().feed(frame)
        self.made += prediction is not None
        self.predictions.clear()
        return prediction

    def check(self) -> None:
        pipeline, book = self.pipeline, self.book
        state = pipeline.state
        if book.usable:
            assert state in {SymbolState.WARMING, SymbolState.LIVE}
            bids, asks = pipeline.rows.book.printed(1_000_000)
            assert (len(bids), len(asks)) == (len(book.bids), len(book.asks))
            assert (dict(bids), dict(asks)) == (book.bids, book.asks)
        elif book.sound:
            assert state is SymbolState.WARMING
        else:
            assert state in {SymbolState.CONNECTING, SymbolState.WAITING_SNAPSHOT, SymbolState.STALE}
        assert (pipeline.reason == "") == (state is SymbolState.LIVE)

    def repair(self) -> None:
        """What a feed does: connects where it is not connected, and asks for a snapshot."""
        if self.pipeline.state is SymbolState.CONNECTING:
            self.connect()
        elif self.pipeline.needs_resync:
            self.pipeline.resync_requested()
        self.feed(self.venue.snapshot())
        assert self.book.usable
        assert self.pipeline.state is SymbolState.WARMING


@pytest.mark.slow
@pytest.mark.timeout(3_000)
@pytest.mark.parametrize("engine", ["ort-step"])
def test_a_million_random_messages(
    engine: str, artifact: Artifact, record_property: Callable[[str, object], None]
) -> None:
    faults: Counter[str] = Counter()
    messages = predictions = repairs = ended = 0
    for seed in range(SESSIONS):
        random = Random(seed)
        session = LongSession(artifact, engine, seed)
        session.connect()
        while session.messages < MESSAGES_A_SESSION:
            if not session.book.sound and random.random() < REPAIR_CHANCE:
                session.repair()
                repairs += 1
            elif random.random() >= FAULT_CHANCE:
                session.delta()
            else:
                fault = random.choice(FAULTS)
                was_live = session.pipeline.state is SymbolState.LIVE
                session.act(fault)
                faults[fault] += 1
                if was_live and fault not in OFTEN_HARMLESS:
                    assert session.pipeline.state is not SymbolState.LIVE
                    ended += 1
        messages += session.messages
        predictions += session.made
    assert messages >= SESSIONS * MESSAGES_A_SESSION
    assert set(faults) == set(FAULTS)
    assert min(faults.values()) > 500
    assert predictions > messages // 4
    assert min(repairs, ended) > 1_000
    counts = (
        f"{messages:,} messages, {predictions:,} predictions, {faults.total():,} faults, {repairs:,} repairs"
    )
    record_property("counts", counts)
    print(f"{counts}, {ended:,} times out of LIVE at once; faults {dict(faults)}")
