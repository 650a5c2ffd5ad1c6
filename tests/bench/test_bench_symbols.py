"""The command `bench symbols`: real runs of small counts; no test looks at how long anything took."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result

from bench.commands.bench import command
from bench.report import Report
from bench.symbol_arrivals import arrival_order
from bench.symbol_pool import SymbolPool
from bench.symbol_subjects import WAYS, SymbolTicks
from bench.weights import Weights
from inference.artifact import Artifact
from lob.errors import InputError


@pytest.fixture(autouse=True)
def one_model(nano_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model of the other tests for every size: random ones take seconds to export."""

    @contextmanager
    def weights(name: None, *, size: str, block: str, seed: int) -> Iterator[Weights]:
        yield Weights(artifact=nano_artifact, label=f"{size}-{block}")

    monkeypatch.setattr("bench.commands.symbols.weights_to_time", weights)


def run(*arguments: str) -> Result:
    few = ["--count", "20", "--runs", "2", "--symbols", "1", "--symbols", "120"]
    return CliRunner().invoke(command, ["symbols", *few, *arguments], catch_exceptions=False)


def test_json_has_every_way_kind_of_arrivals_and_number_of_symbols() -> None:
    result = run("--size", "nano", "--json")
    assert result.exit_code == 0
    report = msgspec.json.decode(result.stdout, type=Report)
    assert [one.subject for one in report.results] == [
        f"{way}-{arrivals}-{symbols}"
        for arrivals in ("round-robin", "zipf")
        for symbols in (1, 120)
        for way in WAYS
    ]
    for one in report.results:
        assert one.count == 48  # whole batches of eight, twice
        assert 0 < one.p50 <= one.p90 <= one.p99 <= one.p999 <= one.max
        assert one.ticks_per_s is not None
        assert one.ticks_per_s > 0
    assert "120 symbols were made in" in report.machine.models[0]


def test_the_table_ends_with_ticks_a_second() -> None:
    result = run("--size", "nano", "--arrivals", "zipf")
    assert result.exit_code == 0
    assert "nano-ssd, zipf-120: " in result.stdout
    assert "ticks a second alone" in result.stdout


def test_what_makes_no_sense_is_refused() -> None:
    for arguments in (["--runs", "0"], ["--arrivals", "zipf", "--arrivals", "zipf"]):
        with pytest.raises(InputError):
            run(*arguments)


def test_arrivals_are_in_turn_or_mostly_a_few_symbols() -> None:
    assert arrival_order("round-robin", 3, 7, seed=0).tolist() == [0, 1, 2, 0, 1, 2, 0]
    order = arrival_order("zipf", 100, 20_000, seed=0)
    counts = np.bincount(order, minlength=100)
    assert counts.min() > 0
    assert counts[0] > 1.5 * counts[1] > 1.5 * counts[10]
    with pytest.raises(InputError, match="symbols: 0 came"):
        arrival_order("zipf", 0, 1, seed=0)


def test_every_symbol_of_a_pool_takes_its_own_frames_in_order(nano_artifact: Artifact) -> None:
    pool = SymbolPool(nano_artifact, 20, seed=0)
    for way in WAYS:
        subject = SymbolTicks(pool, "nano", way, "zipf", 20, seed=1)
        durations_ns = np.zeros(64, np.int64)
        subject.measure(durations_ns)
        assert (durations_ns > 0).all()
        assert 0 < subject.busy_ns(durations_ns) <= durations_ns.sum()
    assert sum(pipeline.counters["row"] for pipeline in pool.pipelines) > 64
    for pipeline in pool.pipelines:
        assert pipeline.counters["gap"] == pipeline.counters["malformed"] == 0
