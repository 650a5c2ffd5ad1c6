"""The command `bench start`: what its figures are made of, and one real start."""

import msgspec
import pytest
from click.testing import CliRunner

from bench.commands.bench import command
from bench.commands.start import start_results, start_targets
from bench.report import Report
from bench.service_start import ServiceStart
from mambalob import main


def a_start(seconds: float, mib: int | None) -> ServiceStart:
    return ServiceStart(
        listening_ns=round(seconds * 0.5e9),
        ready_ns=round(seconds * 1e9),
        processor_ns=None,
        resident_bytes=None if mib is None else mib * 2**20,
        engine="fused",
    )


def test_times_are_milliseconds_and_memory_is_mebibytes() -> None:
    results = start_results("m", [a_start(1.0, 200), a_start(3.0, 240), a_start(2.0, 220)])
    assert [(one.subject, one.unit, one.count, one.p50, one.max) for one in results] == [
        ("start-listening", "ms", 3, 1000.0, 1500.0),
        ("start-ready", "ms", 3, 2000.0, 3000.0),
        ("resident-memory", "MiB", 3, 220.0, 240.0),
    ]


def test_targets_say_what_is_missed() -> None:
    assert start_targets(start_results("m", [a_start(1.5, 200)])) == [
        "ready after 1.50 s (p50), target below 2 s",
        "resident memory at most 200 MiB, target below 250 MiB",
    ]
    assert start_targets(start_results("m", [a_start(2.0, 250)])) == [
        "ready after 2.00 s (p50), target below 2 s (missed)",
        "resident memory at most 250 MiB, target below 250 MiB (missed)",
    ]
    assert len(start_targets(start_results("m", [a_start(2.0, None)]))) == 1


def test_no_start_is_an_error() -> None:
    result = CliRunner().invoke(main, ["bench", "start", "--runs", "0"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "runs is 0" in result.stderr


@pytest.mark.slow
def test_a_real_service_is_started_and_becomes_ready() -> None:
    result = CliRunner().invoke(
        command, ["start", "--runs", "1", "--model", "sim-ssd-small", "--json"], catch_exceptions=False
    )
    report = msgspec.json.decode(result.stdout, type=Report)
    by_name = {one.subject: one for one in report.results}
    assert 0 < by_name["start-listening"].p50 < by_name["start-ready"].p50
    assert by_name["resident-memory"].p50 > 50
    assert len(report.machine.targets) == 2
