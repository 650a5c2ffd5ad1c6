"""The fuzzing in short, and that it finds what it is for."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lob.instrument import Instrument
from lob.row_status import RowStatus
from lob.rows import RowPath
from tests.fuzz.frame_streams import CAPTURES, FrameStream, load_stream
from tests.fuzz.run import fuzz, row_path

FRAMES = 12_000


@pytest.fixture(scope="module")
def stream_named(data_dir: Path) -> Callable[[str], FrameStream]:
    return lambda name: load_stream(name, data_dir)


@pytest.mark.parametrize("name", CAPTURES)
def test_no_crash_no_hang_no_wrong_book(name: str, stream_named: Callable[[str], FrameStream]) -> None:
    report = fuzz(stream_named(name), name, row_path, FRAMES, seed=3)
    assert report.findings == []
    assert report.mutated >= FRAMES
    for status in ("ROW", "SNAPSHOT", "NO_ROW", "IGNORED", "WAITING", "GAP", "MALFORMED", "NOT_JSON"):
        assert report.statuses[status] > 0, status


def test_the_same_seed_gives_the_same_frames(stream_named: Callable[[str], FrameStream]) -> None:
    stream = stream_named("bybit")
    first, second, other = (fuzz(stream, "bybit", row_path, 2_000, seed=seed).statuses for seed in (5, 5, 6))
    assert first == second != other


class Deaf(RowPath):
    """Wrong: takes a book after a gap as sound."""

    def on_frame(self, frame: bytes, receive_ns: int, *, go_on: bool = True) -> RowStatus:
        status = super().on_frame(frame, receive_ns, go_on=go_on)
        if status is RowStatus.GAP:
            self.book.header[3] = 1
        return status


class Forgetful(RowPath):
    """Wrong: one size in a hundred changes is another."""

    applied = 0

    def on_frame(self, frame: bytes, receive_ns: int, *, go_on: bool = True) -> RowStatus:
        status = super().on_frame(frame, receive_ns, go_on=go_on)
        self.applied += status is RowStatus.ROW
        if status is RowStatus.ROW and self.applied % 100 == 0:
            self.book.sizes[0, 0] += 1.0
        return status


class Fragile(RowPath):
    """Wrong: raises for what is no UTF-8."""

    def on_frame(self, frame: bytes, receive_ns: int, *, go_on: bool = True) -> RowStatus:
        frame.decode()
        return super().on_frame(frame, receive_ns, go_on=go_on)


class Credulous(RowPath):
    """Wrong: says of an old change that it was applied."""

    def on_frame(self, frame: bytes, receive_ns: int, *, go_on: bool = True) -> RowStatus:
        status = super().on_frame(frame, receive_ns, go_on=go_on)
        return RowStatus.NO_ROW if status is RowStatus.IGNORED else status


class NumberAlone(RowPath):
    """Wrong: joins a whole book's snapshot by `u`, whatever `seq` says."""

    def on_frame(self, frame: bytes, receive_ns: int, *, go_on: bool = True) -> RowStatus:
        changes = self._exact._changes
        found = re.search(rb'"retCode":0.*"u":(\d+),"seq":\d+', frame)
        for one in changes if found else ():
            if one.update_id == int(found[1]):
                frame = re.sub(rb'"seq":\d+', b'"seq":%d' % one.sequence, frame)
        return super().on_frame(frame, receive_ns, go_on=go_on)


class Impatient(RowPath):
    """Wrong: says that a whole book's snapshot is joined before a change came to it."""

    def on_frame(self, frame: bytes, receive_ns: int, *, go_on: bool = True) -> RowStatus:
        status = super().on_frame(frame, receive_ns, go_on=go_on)
        if status is RowStatus.WAITING and b'"retCode"' in frame:
            return RowStatus.SNAPSHOT
        return status


@pytest.mark.parametrize(
    ("name", "wrong", "found"),
    [
        ("bybit", Deaf, "GAP: usable True, should be False"),
        ("bybit", Forgetful, "apart"),
        ("bybit", Fragile, "UnicodeDecodeError"),
        ("bybit", Credulous, "after"),
        ("bybit-full", Deaf, "usable"),
        ("bybit-full", NumberAlone, "but nothing joins"),
        ("bybit-full", Impatient, "but nothing joins"),
    ],
)
def test_wrong_paths_are_found(
    name: str, wrong: type[RowPath], found: str, stream_named: Callable[[str], FrameStream]
) -> None:
    def make(venue: str, instrument: Instrument) -> RowPath:
        return wrong(row_path(venue, instrument).decoder, instrument, window_length=10)

    report = fuzz(stream_named(name), name, make, 20_000, seed=4)
    assert any(found in finding["error"] for finding in report.findings)
