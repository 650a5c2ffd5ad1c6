"""A chart of many subjects' percentiles: one line each from p50 to the largest. Needs matplotlib."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from bench.report import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKS = (("p50", "o"), ("p90", "|"), ("p99", "d"), ("p999", "x"), ("max", ">"))
"""What is marked on a line, and with which sign."""


def draw_ranges(results: Sequence[Result], caption: str, form: Literal["png", "svg"]) -> bytes:
    """The chart as the bytes of a file; the slowest stands at the top, microseconds are logarithmic."""
    import matplotlib as mpl

    figure = _figure(sorted(results, key=lambda result: result.p50), caption)
    written = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mambalob"}):
        figure.savefig(written, format=form, dpi=130, metadata={"Date": None} if form == "svg" else None)
    return written.getvalue()


def _figure(results: Sequence[Result], caption: str) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 1.5 + 0.24 * len(results)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    heights = list(range(len(results)))
    for height, result in zip(heights, results, strict=True):
        axes.plot([result.p50, result.max], [height, height], color="0.75", linewidth=1, zorder=1)
    for name, sign in MARKS:
        axes.scatter(
            [getattr(result, name) for result in results],
            heights,
            marker=sign,
            s=22,
            label=name.replace("p999", "p99.9"),
            zorder=2,
        )
    axes.set_xscale("log")
    axes.set_xlabel("microseconds")
    axes.set_yticks(
        heights,
        [f"{one.subject}  {one.model}  {one.precision}" for one in results],
        fontsize="small",
    )
    axes.set_ylim(-0.7, len(results) - 0.3)
    axes.set_title(caption, fontsize="small", loc="left")
    axes.grid(visible=True, axis="x", alpha=0.3)
    axes.legend(fontsize="small", loc="lower right")
    return figure
