"""What `bench engines` prints: the figures of every engine and peer beside the ratios between them."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.engine_ratios import EngineRatios
from bench.harness import Subject
from bench.report import Report, Result, condition_lines, figure_text

COLUMNS = (
    "subject",
    "model",
    "format",
    "count",
    "p50",
    "p90",
    "p99",
    "p99.9",
    "max",
    "max/p50",
    "cpu",
    "x reference",
    "x window",
)
EXPLAINED = (
    "cpu: processor time of a call on average, the loop around it included; x reference: how many times "
    "faster than reference-export; x window: than ort-window of the same weights. A ratio takes each side's "
    "p50, or cpu where that is less, since other work on the core interrupts every long call and hardly a "
    "short one; it is the median of the runs' ratios"
)


@dataclass(frozen=True, kw_only=True)
class EngineReport:
    """A report of engines and peers, and what its figures mean beside each other."""

    report: Report
    rows: list[tuple[str, ...]]
    """The cells of the table, in the order of `COLUMNS`."""
    targets: list[str]
    methods: list[str]
    conditions: list[str]


def make_engine_report(report: Report, ratios: EngineRatios, subjects: Sequence[Subject]) -> EngineReport:
    """The table and lines of `report`, whose results are those of `ratios`."""
    return EngineReport(
        report=report,
        rows=[_cells(result, ratios) for result in report.results],
        targets=[str(target) for target in ratios.targets()],
        methods=list(dict.fromkeys(f"{subject.name}: {subject.method}" for subject in subjects)),
        conditions=condition_lines(report),
    )


def print_engine_report(made: EngineReport, console: Console) -> None:
    """The table, then the targets, methods and conditions, a line each."""
    table = Table(
        title="latency of one call, microseconds", title_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )
    for place, column in enumerate(COLUMNS):
        table.add_column(column, justify="left" if place < 3 else "right", no_wrap=True)
    for row in made.rows:
        table.add_row(*row)
    console.print(table)
    for line in (EXPLAINED, *made.targets, *made.methods, *made.conditions):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _cells(result: Result, ratios: EngineRatios) -> tuple[str, ...]:
    figures = (result.p50, result.p90, result.p99, result.p999, result.max)
    return (
        result.subject,
        result.model,
        result.precision,
        f"{result.count:,}",
        *map(figure_text, figures),
        f"{result.max / max(result.p50, 1e-3):,.0f}",
        figure_text(ratios.processor_us(result)),
        _ratio_text(ratios.over_reference(result)),
        _ratio_text(ratios.over_window(result)),
    )


def _ratio_text(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio:,.2f}" if ratio < 10 else f"{ratio:,.1f}" if ratio < 100 else f"{ratio:,.0f}"
