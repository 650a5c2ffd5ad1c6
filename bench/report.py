"""What a run says: one object for programs, one table for people, from the same figures."""

from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.table import Table

from bench.harness import Measured
from bench.machine import Machine, describe_machine, library_versions, source_commit
from bench.samples import percentile_ns, summarize


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """The clock of a run and what reading it twice costs; the figures have this cost in them."""

    name: str
    overhead_p50_ns: int
    overhead_p99_ns: int


class MachineReport(Machine, frozen=True, kw_only=True):
    """The machine, and the conditions a run set itself."""

    clock: Clock
    garbage_collector: str


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One subject's percentiles, in `unit`."""

    subject: str
    model: str
    precision: str
    unit: str
    count: int
    p50: float
    p90: float
    p99: float
    p999: float
    max: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run: where it was made, with what, and its figures."""

    machine: MachineReport
    versions: dict[str, str]
    commit: str
    results: list[Result]


def make_report(measured: Sequence[Measured], clock: Measured, machine: Machine | None = None) -> Report:
    """The report of a run whose clock readings alone took `clock`.

    `machine` is the machine as it was when the run began; None looks at it now.
    """
    before = describe_machine() if machine is None else machine
    return Report(
        machine=MachineReport(
            **msgspec.structs.asdict(before),
            clock=Clock(
                name="perf_counter_ns",
                overhead_p50_ns=percentile_ns(clock.durations_ns, 0.5),
                overhead_p99_ns=percentile_ns(clock.durations_ns, 0.99),
            ),
            garbage_collector="off while timing",
        ),
        versions=library_versions(),
        commit=source_commit(),
        results=[_result(one) for one in measured],
    )


def encode_report(report: Report) -> bytes:
    """The report as one line of JSON."""
    return msgspec.json.encode(report)


def print_report(report: Report, methods: Sequence[str], console: Console) -> None:
    """Print the figures as a table with the machine, versions and commit beside them.

    `methods`: for each result what lay between the two readings of the clock.
    """
    table = Table(title="latency of one call, microseconds", title_justify="left")
    for column in ("subject", "model", "precision"):
        table.add_column(column, no_wrap=True)
    for column in ("count", "p50", "p90", "p99", "p99.9", "max"):
        table.add_column(column, justify="right", no_wrap=True)
    for result in report.results:
        figures = (result.p50, result.p90, result.p99, result.p999, result.max)
        table.add_row(
            result.subject,
            result.model,
            result.precision,
            f"{result.count:,}",
            *(f"{figure:,.2f}" for figure in figures),
        )
    console.print(table)
    for result, method in zip(report.results, methods, strict=True):
        console.print(f"{result.subject}: {method}", highlight=False)
    console.print(_conditions(report), highlight=False)


def _conditions(report: Report) -> str:
    machine = report.machine
    known = [machine.processor, machine.architecture]
    if machine.cores is not None:
        known.append(f"{machine.cores} cores")
    if machine.cores_allowed is not None and machine.cores_allowed != machine.cores:
        known.append(f"{machine.cores_allowed} allowed")
    if machine.frequency_mhz is not None:
        known.append(f"{machine.frequency_mhz:.0f} MHz")
    if machine.governor is not None:
        known.append(f"governor {machine.governor}")
    if machine.virtualised is not None:
        known.append("virtual machine" if machine.virtualised else "no hypervisor")
    if machine.memory_gib is not None:
        known.append(f"{machine.memory_gib} GiB")
    known.append(machine.system)
    if machine.load_average is not None:
        known.append("load average " + " ".join(f"{load:.2f}" for load in machine.load_average))
    versions = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    return "\n".join(
        (
            f"machine: {', '.join(known)}",
            f"versions: {versions}",
            f"commit: {report.commit}",
            f"clock: {machine.clock.name}, reading it twice takes {machine.clock.overhead_p50_ns} ns p50, "
            f"{machine.clock.overhead_p99_ns} ns p99 (not subtracted); "
            f"garbage collector {machine.garbage_collector}",
        )
    )


def _result(one: Measured) -> Result:
    found = summarize(one.durations_ns)
    return Result(
        subject=one.subject.name,
        model=one.subject.model,
        precision=one.subject.precision,
        unit="us",
        count=found.count,
        p50=found.p50_ns / 1000,
        p90=found.p90_ns / 1000,
        p99=found.p99_ns / 1000,
        p999=found.p999_ns / 1000,
        max=found.max_ns / 1000,
    )
