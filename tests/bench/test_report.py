"""The report's object and its table, from known samples."""

import io

import msgspec
import pytest
from rich.console import Console

from bench.fixed_arithmetic import QuietCore
from bench.harness import Measured
from bench.machine import Machine
from bench.report import (
    Report,
    condition_lines,
    encode_report,
    machine_report,
    make_report,
    print_report,
    report_of,
)


@pytest.fixture
def report(known_run: list[Measured], clock_run: Measured, a_machine: Machine) -> Report:
    return make_report(known_run, [clock_run], frames="frames of a kind", machine=a_machine, preemptions=17)


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
    assert found["machine"]["clocks"] == [
        {"name": "some clock", "overhead_p50_ns": 40, "overhead_p99_ns": 55}
    ]
    assert found["machine"]["preemptions"] == 17
    assert found["machine"]["frames"] == "frames of a kind"
    assert "checks" not in found["machine"]


def test_table_says_figures_method_and_conditions(report: Report) -> None:
    text = io.StringIO()
    print_report(
        report, ["how one", "how two"], Console(file=text, width=160), compared=["decode", "book", "other"]
    )
    shown = text.getvalue()
    for part in (
        "decode",
        "1,000",
        "book: how two, float64",
        "Some Processor, x86_64, 4 cores, 2 allowed, virtual machine, 8.0 GiB, Linux 6.1",
        "load average 0.50 0.25 0.12",
        f"numpy {report.versions['numpy']}",
        f"commit: {report.commit}",
        "clock: some clock, reading it twice takes 40 ns p50, 55 ns p99, not subtracted",
        "frames: frames of a kind",
        "preemptions: 17 while it ran",
        "decode is 2.0 times faster than book (p50)",
    ):
        assert part in shown


def test_checks_peers_and_ratios_are_told(
    known_run: list[Measured], clock_run: Measured, a_machine: Machine
) -> None:
    report = make_report(
        known_run,
        [clock_run],
        frames="frames",
        machine=a_machine,
        preemptions=None,
        checks=["all is well", "and so is this"],
        peers=["rich", "no-such-package-here"],
    )
    assert msgspec.json.decode(encode_report(report))["machine"]["checks"] == [
        "all is well",
        "and so is this",
    ]
    assert "no-such-package-here" not in report.versions
    text = io.StringIO()
    print_report(report, ["how", "how"], Console(file=text, width=160), ratios=["a ratio of some kind"])
    for part in ("checked: all is well", "checked: and so is this", "a ratio of some kind", "rich "):
        assert part in text.getvalue()


def test_how_quiet_the_core_was_is_told(a_machine: Machine) -> None:
    core = QuietCore(least_us=2.9, p50_us=2.94, p99_us=4.77, slowed=0.0573)
    report = report_of([], machine_report(a_machine, [], frames="", preemptions=0, quiet_core=core))
    assert msgspec.json.decode(encode_report(report), type=Report).machine.quiet_core == core
    assert str(core) in condition_lines(report)


def test_a_subject_of_several_models_is_explained_once(
    known_run: list[Measured], clock_run: Measured, a_machine: Machine
) -> None:
    report = make_report(
        [known_run[0], known_run[0]], [clock_run], frames="", machine=a_machine, preemptions=None
    )
    text = io.StringIO()
    print_report(report, ["how one", "how one"], Console(file=text, width=160))
    assert text.getvalue().count("decode: how one") == 1


def test_no_figure_is_cut_on_a_narrow_terminal(report: Report) -> None:
    text = io.StringIO()
    print_report(report, ["how one", "how two"], Console(file=text, width=80))
    for figure in ("501.0", "901.0", "991.0", "1,000", "1,002", "2,000"):
        assert figure in text.getvalue()


def test_one_subject_is_compared_with_none(report: Report) -> None:
    text = io.StringIO()
    print_report(report, ["how one", "how two"], Console(file=text, width=80), compared=["book"])
    assert "times faster" not in text.getvalue()
