"""A run as one HTML file that needs nothing else: table, chart, machine, versions and commit."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

from bench.plot import require_plotting
from bench.range_chart import draw_ranges
from bench.report import TEXT_COLUMNS, Report, Result, condition_lines, method_lines, table_of
from lob.errors import InputError

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>$title</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.15rem 0.6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:nth-child(-n+$text_columns), td:nth-child(-n+$text_columns) { text-align: left; }
.wide { overflow-x: auto; }
svg { max-width: 100%; height: auto; }
</style>
</head>
<body>
<h1>$title</h1>
<p>Microseconds. $explained.</p>
<div class="wide"><table>
<thead><tr>$head</tr></thead>
<tbody>
$body
</tbody>
</table></div>
<h2>Targets</h2>
<ul>$targets</ul>
<h2>Percentiles</h2>
<div class="wide">$chart</div>
<h2>What is timed</h2>
<ul>$methods</ul>
<h2>Conditions</h2>
<ul>$conditions</ul>
</body>
</html>
""")


@dataclass(frozen=True, kw_only=True)
class ReportPage:
    """What stands on the page, all of it text, and the results that its chart shows."""

    title: str
    explained: str
    """What a reader has to know of the figures, without the full stop."""
    columns: Sequence[str]
    text_columns: int
    """How many of the first columns hold names."""
    rows: Sequence[Sequence[str]]
    targets: Sequence[str]
    methods: Sequence[str]
    conditions: Sequence[str]
    results: Sequence[Result]
    caption: str
    """Under the chart's title: where its figures were made."""


def plain_page(
    report: Report,
    methods: Sequence[str],
    *,
    title: str,
    explained: str,
    targets: Sequence[str],
    caption: str,
) -> ReportPage:
    """The page of a report as `bench.report.print_report` prints it; `methods` as there."""
    columns, rows = table_of(report.results)
    return ReportPage(
        title=title,
        explained=explained,
        columns=columns,
        text_columns=TEXT_COLUMNS,
        rows=rows,
        targets=targets,
        methods=method_lines(report.results, methods),
        conditions=condition_lines(report),
        results=report.results,
        caption=caption,
    )


def require_files(png: Path | None, html: Path | None) -> None:
    """Raise InputError, before any measuring, for a chart or a page that could not be written."""
    if png is not None:
        require_plotting(png)
    if html is not None:
        require_plotting(html, option="--html")


def write_files(page: ReportPage, *, png: Path | None, html: Path | None) -> None:
    """Write the chart and the page where they are asked for; InputError where one cannot be written."""
    for path, form in ((png, "png"), (html, "html")):
        if path is None:
            continue
        written = draw_ranges(page.results, page.caption, "png") if form == "png" else _html(page)
        try:
            path.write_bytes(written)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error


def _html(page: ReportPage) -> bytes:
    chart = draw_ranges(page.results, page.caption, "svg").decode()
    return _PAGE.substitute(
        title=escape(page.title),
        explained=escape(page.explained),
        text_columns=page.text_columns,
        head="".join(f"<th>{escape(column)}</th>" for column in page.columns),
        body="\n".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in page.rows
        ),
        targets=_items(page.targets or ["none: the subjects they are about were not measured"]),
        chart=chart[chart.index("<svg") :],  # without the XML declaration
        methods=_items(page.methods),
        conditions=_items(page.conditions),
    ).encode()


def _items(lines: Sequence[str]) -> str:
    return "".join(f"<li>{escape(line)}</li>" for line in lines)
