"""The command `bench queue`: real runs of small counts; no test looks at how long anything took."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
from click.testing import CliRunner, Result

from bench.commands.bench import command
from bench.report import Report
from bench.symbol_frames import SymbolFrames
from bench.weights import Weights
from inference.artifact import Artifact
from lob.errors import InputError


@pytest.fixture(autouse=True)
def one_model(nano_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model of the other tests for every size: random ones take seconds to export."""

    @contextmanager
    def weights(name: None, *, size: str, block: str, seed: int) -> Iterator[Weights]:
        yield Weights(artifact=nano_artifact, label=f"{size}-{block}")

    monkeypatch.setattr("bench.commands.queue.weights_to_time", weights)


def run(*arguments: str) -> Result:
    few = ["--count", "100", "--runs", "1", "--symbols", "12", "--size", "nano"]
    return CliRunner().invoke(command, ["queue", *few, *arguments], catch_exceptions=False)


def test_json_has_both_ways_for_every_length_of_the_queue() -> None:
    result = run("--waiting", "3", "--waiting", "60", "--json")
    assert result.exit_code == 0
    report = msgspec.json.decode(result.stdout, type=Report)
    assert [one.subject for one in report.results] == [
        f"{way}-12-{waiting}" for waiting in (3, 60) for way in ("alone", "batch")
    ]
    for one in report.results:
        assert one.count >= 100
        assert 0 < one.p50 <= one.p90 <= one.p99 <= one.p999 <= one.max
        assert one.ticks_per_s is not None
        assert one.ticks_per_s > 0


def test_the_table_ends_with_frames_a_second() -> None:
    result = run("--waiting", "60")
    assert result.exit_code == 0
    assert "12 symbols, 60 frames at once: " in result.stdout


def test_what_makes_no_sense_is_refused() -> None:
    for arguments in (["--runs", "0"], ["--waiting", "3", "--waiting", "3"]):
        with pytest.raises(InputError):
            run(*arguments)


def test_each_symbol_has_frames_of_its_own() -> None:
    frames = SymbolFrames(20, seed=0)
    first = [frames.take(number).frame for number in range(20)]
    assert all(b'"snapshot"' in frame for frame in first)
    assert [frame.split(b'"')[3] for frame in first] == [
        f"orderbook.50.{one}".encode() for one in frames.names
    ]
    again = frames.take(19).frame
    assert b'"delta"' in again
    assert b"COIN19USDT" in again
