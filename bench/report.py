"""What a run says: one object for programs, one table for people, from the same figures."""

from collections.abc import Sequence
from statistics import median
from typing import Final

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.fixed_arithmetic import QuietCore
from bench.harness import Measured
from bench.machine import Machine, library_versions, source_commit
from bench.samples import Samples, percentile_ns, summarize


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """A clock of a run and what reading it twice costs; the figures have this cost in them."""

    name: str
    overhead_p50_ns: int
    overhead_p99_ns: int


class MachineReport(Machine, frozen=True, kw_only=True, omit_defaults=True):
    """The machine, and the conditions a run set itself."""

    clocks: list[Clock]
    garbage_collector: str
    frames: str
    preemptions: int | None
    """How often the system took the core away while the run lasted; calls it hit stand in the tail."""
    quiet_core: QuietCore | None = None
    """How far other work slowed the core, where that was measured."""
    checks: tuple[str, ...] = ()
    """What was held to be true of the subjects before their figures were given out."""
    models: tuple[str, ...] = ()
    """What is to be known of the models that were timed."""
    targets: tuple[str, ...] = ()
    """What was to be reached and what was found, ratios of uninterrupted calls."""
    runs: int = 1
    """How often all was measured; with more than one, percentiles are the median of the runs'."""
    core: int | None = None
    """The core that the process was kept on, where it was told one."""
    load_average_after: tuple[float, float, float] | None = None


LATE_US: Final = 1000.0
"""What takes longer is counted as late in an open loop."""


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
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
    late: int | None = None
    """Of an open loop: how many of `count` took longer than a millisecond."""
    lost: int | None = None
    """Over sockets: frames of which no prediction was published."""
    missed: int | None = None
    """Over sockets: predictions that a subscriber who keeps up did not get, being given a newer one."""
    missed_slow: int | None = None
    """The same of a subscriber who does not."""
    ticks_per_s: int | None = None
    """Of many symbols: ticks that one core takes in a second, one after the other."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run: where it was made, with what, and its figures."""

    machine: MachineReport
    versions: dict[str, str]
    commit: str
    results: list[Result]


def make_report(
    measured: Sequence[Measured],
    clocks: Sequence[Measured],
    *,
    frames: str,
    machine: Machine,
    preemptions: int | None,
    checks: Sequence[str] = (),
    peers: Sequence[str] = (),
) -> Report:
    """The report of one run on `machine`, as it was when the run began, fed with `frames`.

    `clocks` are what the readings of the run's clocks alone took; they are no results. `checks`: what was
    found to hold of the subjects after the run. `peers`: the packages measured beside ours.
    """
    conditions = machine_report(machine, clocks, frames=frames, preemptions=preemptions, checks=checks)
    return report_of([result_of([one]) for one in measured], conditions, peers=peers)


def report_of(results: Sequence[Result], machine: MachineReport, *, peers: Sequence[str] = ()) -> Report:
    """A report of figures that were made under the conditions `machine`."""
    return Report(
        machine=machine, versions=library_versions(peers), commit=source_commit(), results=list(results)
    )


def result_of(runs: Sequence[Measured]) -> Result:
    """The figures of one subject: counts summed, percentiles medians of the runs', the largest of all."""
    subject = runs[0].subject
    found = [summarize(run.durations_ns) for run in runs]
    return Result(
        subject=subject.name,
        model=subject.model,
        precision=subject.precision,
        unit="us",
        count=sum(one.count for one in found),
        p50=median(one.p50_ns for one in found) / 1000,
        p90=median(one.p90_ns for one in found) / 1000,
        p99=median(one.p99_ns for one in found) / 1000,
        p999=median(one.p999_ns for one in found) / 1000,
        max=max(one.max_ns for one in found) / 1000,
    )


def machine_report(
    machine: Machine,
    clocks: Sequence[Measured],
    *,
    frames: str,
    preemptions: int | None,
    quiet_core: QuietCore | None = None,
    checks: Sequence[str] = (),
    models: Sequence[str] = (),
    targets: Sequence[str] = (),
    runs: int = 1,
    core: int | None = None,
    load_average_after: tuple[float, float, float] | None = None,
    garbage_collector: str = "off while timing",
) -> MachineReport:
    """The machine and the conditions of the run, as `make_report`."""
    return MachineReport(
        **msgspec.structs.asdict(machine),
        clocks=[
            Clock(
                name=one.subject.name,
                overhead_p50_ns=percentile_ns(one.durations_ns, 0.5),
                overhead_p99_ns=percentile_ns(one.durations_ns, 0.99),
            )
            for one in clocks
        ],
        garbage_collector=garbage_collector,
        frames=frames,
        preemptions=preemptions,
        quiet_core=quiet_core,
        checks=tuple(checks),
        models=tuple(models),
        targets=tuple(targets),
        runs=runs,
        core=core,
        load_average_after=load_average_after,
    )


def encode_report(report: Report) -> bytes:
    """The report as one line of JSON."""
    return msgspec.json.encode(report)


def print_report(
    report: Report,
    methods: Sequence[str],
    console: Console,
    *,
    compared: Sequence[str] = (),
    ratios: Sequence[str] = (),
) -> None:
    """Print the figures as a table with the machine, versions and commit beside them.

    `methods`: for each result what lay between the two readings of the clock. `compared`: the subjects whose
    medians are set against the slowest one's among them. `ratios`: lines that the caller made of the figures.
    """
    table = Table(title="latency, microseconds", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("subject", no_wrap=True)
    table.add_column("model", overflow="fold")
    columns, rows = table_of(report.results)
    for column in columns[TEXT_COLUMNS:]:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for line in (
        *_ratios([result for result in report.results if result.subject in compared]),
        *ratios,
        *method_lines(report.results, methods),
        *condition_lines(report),
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def late_count(durations_ns: Samples) -> int:
    """How many of `durations_ns` (N,) are late."""
    return int((durations_ns > LATE_US * 1000).sum())


def late_lines(results: Sequence[Result]) -> list[str]:
    """The share of late samples, a line for each result that counts them."""
    return [
        f"{one.subject}, {one.model}: {one.late:,} of {one.count:,} ({one.late / one.count:.2%}) over 1 ms"
        for one in results
        if one.late is not None
    ]


TEXT_COLUMNS: Final = 2
"""The first columns of a table hold names, the others figures."""


def table_of(results: Sequence[Result]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and cells of the results' table; of the counts only those that some result has."""
    counts = {
        "> 1 ms": [one.late for one in results],
        "lost": [one.lost for one in results],
        "missed": [one.missed for one in results],
        "slow missed": [one.missed_slow for one in results],
    }
    kept = {name: column for name, column in counts.items() if any(count is not None for count in column)}
    rows = []
    for place, one in enumerate(results):
        figures = (one.p50, one.p90, one.p99, one.p999, one.max)
        row = [one.subject, one.model, f"{one.count:,}", *map(figure_text, figures)]
        row.append(f"{one.max / max(one.p50, 1e-3):,.0f}")
        row += ["" if column[place] is None else f"{column[place]:,}" for column in kept.values()]
        rows.append(tuple(row))
    columns = ("subject", "model", "count", "p50", "p90", "p99", "p99.9", "max", "max/p50", *kept)
    return columns, rows


def method_lines(results: Sequence[Result], methods: Sequence[str]) -> list[str]:
    """What lay between the two readings of the clock; a subject of several models is explained once."""
    return list(
        dict.fromkeys(
            f"{result.subject}: {method}{'' if result.precision == 'none' else f', {result.precision}'}"
            for result, method in zip(results, methods, strict=True)
        )
    )


def figure_text(microseconds: float) -> str:
    """A figure as tables print it. Three digits or more; a nanosecond's figure below 10 us."""
    decimals = 3 if microseconds < 10 else 2 if microseconds < 100 else 1 if microseconds < 1000 else 0
    return f"{microseconds:,.{decimals}f}"


def _ratios(results: Sequence[Result]) -> list[str]:
    """How many times faster each is at the median than the slowest."""
    if len(results) < 2:
        return []
    slowest = max(results, key=lambda result: result.p50)
    return [
        f"{result.subject} is {slowest.p50 / result.p50:.1f} times faster than {slowest.subject} (p50)"
        for result in results
        if result is not slowest and result.p50 > 0
    ]


def condition_lines(report: Report) -> list[str]:
    """How the figures were made, on what and with what, a line each."""
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
    if machine.core is not None:
        known.append(f"kept on core {machine.core}")
    if machine.load_average is not None:
        known.append("load average " + " ".join(f"{load:.2f}" for load in machine.load_average))
    if machine.load_average_after is not None:
        known.append("afterwards " + " ".join(f"{load:.2f}" for load in machine.load_average_after))
    versions = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    return [
        f"frames: {machine.frames}",
        *(f"checked: {check}" for check in machine.checks),
        *(f"model: {model}" for model in machine.models),
        *(
            f"clock: {clock.name}, reading it twice takes {clock.overhead_p50_ns} ns p50, "
            f"{clock.overhead_p99_ns} ns p99, not subtracted"
            for clock in machine.clocks
        ),
        *([f"runs: {machine.runs}, percentiles are medians of theirs"] if machine.runs > 1 else []),
        f"garbage collector: {machine.garbage_collector}",
        f"preemptions: {'unknown' if machine.preemptions is None else machine.preemptions} while it ran",
        *([] if machine.quiet_core is None else [str(machine.quiet_core)]),
        f"machine: {', '.join(known)}",
        f"versions: {versions}",
        f"commit: {report.commit}",
    ]
