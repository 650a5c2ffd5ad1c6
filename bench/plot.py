"""Percentile curves of a run as a PNG: latency against how rare it is. Needs matplotlib (extra `train`)."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bench.harness import Measured
from inference.training_extra import INSTALL_TRAINING_EXTRA
from lob.errors import InputError

MARKED = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)


def require_plotting(path: Path, option: str = "--png") -> None:
    """Raise InputError, before any measuring, where a plot could not be made or put at `path`."""
    if not path.absolute().parent.is_dir():
        raise InputError(f"{option}: {path} came; a file in a directory that exists is allowed")
    if find_spec("matplotlib") is None:
        raise InputError(
            f"{option} needs matplotlib, which the serving install leaves out; {INSTALL_TRAINING_EXTRA}"
        )


def plot_percentiles(measured: Sequence[Measured], path: Path, caption: str) -> None:
    """Write to `path` one curve a subject: every sample against its rank, both axes logarithmic.

    The horizontal axis is 1 / (1 - quantile), so each step to the next nine is as wide as the last. Raises
    InputError where the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    most = 1
    for one in measured:
        ordered_us = np.sort(one.durations_ns) / 1000  # (N,)
        most = max(most, ordered_us.size)
        rarity = ordered_us.size / (ordered_us.size - np.arange(ordered_us.size))  # (N,), 1 .. N
        axes.plot(
            rarity, np.maximum(ordered_us, 1e-3), label=f"{one.subject.name} {one.subject.model}".strip()
        )
    marked = [quantile for quantile in MARKED if 1 / (1 - quantile) <= most * 1.001]
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(
        [1 / (1 - quantile) for quantile in marked], [f"{quantile * 100:g}%" for quantile in marked]
    )
    axes.minorticks_off()
    axes.set_xlabel("percentile of calls")
    axes.set_ylabel("microseconds")
    axes.set_title(caption, fontsize="small", loc="left")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")
    try:
        figure.savefig(path, format="png", dpi=150)
    except OSError as error:
        raise InputError(f"cannot write the plot to {path}: {error.strerror}") from error
