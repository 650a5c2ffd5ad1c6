"""Where a command prints: tables on standard output, a progress bar on standard error."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

UNTOLD_WIDTH: Final = 110
"""Columns of a table that goes to a file or a pipe."""


def table_console(untold_width: int = UNTOLD_WIDTH) -> Console:
    """Standard output, as wide as the tables need where nothing says how wide it is."""
    told = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if told else untold_width)


@contextmanager
def timing_progress() -> Iterator[Callable[[int, int], None] | None]:
    """A bar on standard error, where that is a terminal; else nothing."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("timing"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as progress:
        task = progress.add_task("timing")

        def on_progress(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)
            progress.refresh()

        yield on_progress
