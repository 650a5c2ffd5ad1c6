"""`bench engines` as one HTML file that needs nothing else: table, chart, machine, versions and commit."""

from html import escape
from pathlib import Path
from string import Template

from bench.engine_report import COLUMNS, EXPLAINED, EngineReport
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
th:nth-child(-n+3), td:nth-child(-n+3) { text-align: left; }
.wide { overflow-x: auto; }
svg { max-width: 100%; height: auto; }
</style>
</head>
<body>
<h1>$title</h1>
<p>Microseconds of one call. $explained.</p>
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


def require_directory(path: Path) -> None:
    """Raise InputError, before any measuring, where no file could be put at `path`."""
    if not path.absolute().parent.is_dir():
        raise InputError(f"--html: {path} came; a file in a directory that exists is allowed")


def write_html(made: EngineReport, chart_svg: bytes, path: Path, title: str) -> None:
    """Write the report to `path`; raises InputError where it cannot be written."""
    chart = chart_svg.decode()
    page = _PAGE.substitute(
        title=escape(title),
        explained=escape(EXPLAINED),
        head="".join(f"<th>{escape(column)}</th>" for column in COLUMNS),
        body="\n".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in made.rows
        ),
        targets=_items(made.targets or ["none: the subjects they are about were not measured"]),
        chart=chart[chart.index("<svg") :],  # without the XML declaration
        methods=_items(made.methods),
        conditions=_items(made.conditions),
    )
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write the report to {path}: {error.strerror}") from error


def _items(lines: list[str]) -> str:
    return "".join(f"<li>{escape(line)}</li>" for line in lines)
