"""The report's object and its table, from known samples."""

import io

import msgspec
import pytest
from rich.console import Console

from bench.harness import Measured
from bench.machine import Machine
from bench.report import Report, encode_report, make_report, print_report


@pytest.fixture
def report(known_run: list[Measured], clock_run: Measured, a_machine: Machine) -> Report:
    return make_report(known_run, clock_run, a_machine)


def test_figures_are_those_of_the_samples_in_microseconds(report: Report) -> None:
    decode, book = report.results
    assert (decode.subject, decode.model, decode.precision, decode.unit) == (
        "decode",
        "depth50",
        "float64",
        "us",
    )
    assert (decode.count, decode.p50, decode.p90, decode.p99) == (1000, 501.0, 901.0, 991.0)
    assert (decode.p999, decode.max) == (1000.0, 1000.0)
    assert (book.p50, book.max) == (1002.0, 2000.0)


def test_json_has_exactly_these_keys(report: Report) -> None:
    text = encode_report(report)
    assert msgspec.json.decode(text, type=Report) == report
    found = msgspec.json.decode(text)
    assert list(found) == ["machine", "versions", "commit", "results"]
    keys = ["subject", "model", "precision", "unit", "count", "p50", "p90", "p99", "p999", "max"]
    assert [list(result) for result in found["results"]] == [keys, keys]
    assert found["machine"]["clock"] == {
        "name": "perf_counter_ns",
        "overhead_p50_ns": 40,
        "overhead_p99_ns": 55,
    }


def test_table_says_figures_method_and_conditions(report: Report) -> None:
    text = io.StringIO()
    print_report(report, ["how one", "how two"], Console(file=text, width=160))
    shown = text.getvalue()
    for part in (
        "decode",
        "1,000.00",
        "book: how two",
        "Some Processor, x86_64, 4 cores, 2 allowed, virtual machine, 8.0 GiB, Linux 6.1",
        "load average 0.50 0.25 0.12",
        f"numpy {report.versions['numpy']}",
        f"commit: {report.commit}",
        "40 ns p50, 55 ns p99 (not subtracted)",
    ):
        assert part in shown


def test_this_machine_where_none_is_given(known_run: list[Measured], clock_run: Measured) -> None:
    assert make_report(known_run, clock_run).machine.processor
