"""`mambalob bench engines`: every engine, size, block and number format, and peers, in the same runs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, get_args

import click

from bench.commands.options import (
    cpu_option,
    html_option,
    json_option,
    png_option,
    runs_option,
    seed_option,
    sizes_option,
)
from bench.compiled_clock import CompiledClockReading
from bench.engine_ratios import EngineRatios
from bench.engine_report import COLUMNS, EXPLAINED, make_engine_report, print_engine_report
from bench.fixed_arithmetic import FixedArithmetic, quiet_core
from bench.harness import ClockReading, Plan, Subject
from bench.html_report import ReportPage, require_files, write_files
from bench.machine import describe_machine, load_average, preemptions_since, preemptions_so_far
from bench.pinning import pinned_to
from bench.repeated_runs import RepeatedRuns, run_repeatedly
from bench.report import encode_report, machine_report, report_of
from bench.row_subject import IdleSubject, require_idle
from bench.row_tape import Rows, seeded_rows
from bench.terminal import table_console, timing_progress
from bench.weights import Block, Size
from inference.precision import PRECISIONS
from inference.training_extra import INSTALL_TRAINING_EXTRA
from lob.errors import InputError

ROWS: Final = 4096
"""Rows that are read again and again."""
BLOCK: Final = 32
"""Timed calls of a turn: fewer than a tick's stages have, since there are many subjects."""
NEEDED: Final = ("torch", "onnx", "onnxscript", "matplotlib")
PRECISIONS_TO_TIME: Final = tuple(precision for precision in PRECISIONS if precision != "float16")
"""float16 takes the time of float32: only its file is shorter."""
TABLE_WIDTH: Final = 160


@dataclass(frozen=True, kw_only=True)
class _Made:
    """The subjects of a run and what is to be said of them."""

    subjects: list[Subject]
    notes: list[str]


@click.command("engines")
@sizes_option()
@click.option(
    "--block",
    "blocks",
    type=click.Choice(get_args(Block)),
    multiple=True,
    default=get_args(Block),
    show_default=True,
    help="May be given again.",
)
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(PRECISIONS),
    multiple=True,
    default=PRECISIONS_TO_TIME,
    show_default=True,
    help="Of the weights; may be given again.",
)
@click.option("--peers/--no-peers", default=True, show_default=True, help="Other people's models beside.")
@click.option("--count", default=5_000, show_default=True, help="Timed calls of each subject in a run.")
@click.option("--warmup", default=500, show_default=True, help="Untimed calls of each subject before a run.")
@runs_option(5)
@click.option("--idle-ms", type=float, help="Also time each subject after so many milliseconds asleep.")
@cpu_option()
@seed_option("Of rows and weights.")
@json_option()
@png_option()
@html_option()
def command(
    sizes: tuple[Size, ...],
    blocks: tuple[Block, ...],
    precisions: tuple[str, ...],
    peers: bool,
    count: int,
    warmup: int,
    runs: int,
    idle_ms: float | None,
    cpu: int | None,
    seed: int,
    as_json: bool,
    png: Path | None,
    html: Path | None,
) -> None:
    """Time the engines and other people's models on the same rows, interleaved, in several runs.

    Engines: `fused` in every --precision, `ort-step`, `ort-window` in those that
    pay there, each on every --size and --block with
    random weights, since a call's cost depends on sizes alone. Peers: `reference-export` (the reference
    architecture exported and called as its authors do), `torch-eager` (the same in PyTorch), LSTM_A of
    STAC-ML as window and step, DeepLOB, BiN-C(TABL), in onnxruntime. Beside the peers stands `fused` at
    LSTM_A's size.

    A sample is one call between two readings of a clock; the row is already in memory. All samples are kept
    and percentiles are samples, no buckets. Subjects take turns in blocks of 32 calls, slow ones with fewer,
    so that a turn is at most some 20 ms; they have fewer samples, which `count` tells. A figure is the median
    of the runs' (the largest: of all). Ratios are taken within each run, of p50, or of processor time where
    that is less: other work on the core interrupts every long call and hardly a short one. The garbage
    collector is off while timing. One thread. Needs the training extra; the reference's graph is written and
    loaded anew each time, which takes half a minute.
    """
    plan = Plan(count=count, warmup=warmup, block=BLOCK)
    _require(sizes, blocks, png, html)
    if runs < 1:
        raise InputError(f"runs is {runs}; at least 1 is needed")
    if idle_ms is not None:
        require_idle(idle_ms)
    rows = seeded_rows(seed, ROWS)
    with pinned_to(cpu), TemporaryDirectory(prefix="mambalob-bench-") as folder, _one_thread():
        machine = describe_machine()
        made = _make(sizes, blocks, precisions, rows, Path(folder), peers=peers, seed=seed)
        subjects = list(made.subjects)
        if idle_ms is not None:
            subjects += [IdleSubject(subject, idle_ms) for subject in made.subjects]
        clocks: list[Subject] = [ClockReading(), CompiledClockReading()]
        before = preemptions_so_far()
        with timing_progress() as on_progress:
            measured = run_repeatedly([*subjects, *clocks, FixedArithmetic()], plan, runs, on_progress)
        preemptions = preemptions_since(before)
    found = RepeatedRuns(runs=[run[: len(subjects)] for run in measured.runs])
    ratios = EngineRatios(found)
    report = report_of(
        ratios.results,
        machine_report(
            machine,
            measured.runs[-1][len(subjects) : -1],
            frames=f"{ROWS:,} rows of seeded Bybit deltas, seed {seed}, in memory, again and again",
            preemptions=preemptions,
            quiet_core=quiet_core([run[-1] for run in measured.runs]),
            models=made.notes,
            targets=[str(target) for target in ratios.targets()],
            runs=runs,
            core=cpu,
            load_average_after=load_average(),
        ),
        peers=["torch", "onnx"],
    )
    full = make_engine_report(report, ratios, subjects)
    caption = f"{machine.processor}, {runs} runs\n{report.commit}"
    page = ReportPage(
        title="mambalob bench engines",
        explained=f"Of one call. {EXPLAINED}",
        columns=COLUMNS,
        text_columns=3,
        rows=full.rows,
        targets=full.targets,
        methods=full.methods,
        conditions=full.conditions,
        results=report.results,
        caption=caption,
    )
    write_files(page, png=png, html=html)
    if as_json:
        click.echo(encode_report(report))
        return
    print_engine_report(full, table_console(TABLE_WIDTH))


def _require(sizes: Sequence[str], blocks: Sequence[str], png: Path | None, html: Path | None) -> None:
    """Raise InputError, before any work, for what could not be done at its end."""
    absent = [name for name in NEEDED if find_spec(name) is None]
    if absent:
        raise InputError(
            f"bench engines needs {', '.join(absent)}, which the serving install leaves out; "
            f"{INSTALL_TRAINING_EXTRA}"
        )
    for name, given in (("--size", sizes), ("--block", blocks)):
        if len(set(given)) != len(given):
            raise InputError(f"{name}: {', '.join(given)} came; each is allowed once")
    require_files(png, html)


def _make(
    sizes: Sequence[Size],
    blocks: Sequence[Block],
    precisions: Sequence[str],
    rows: Rows,
    folder: Path,
    *,
    peers: bool,
    seed: int,
) -> _Made:
    from bench.engine_models import make_model_subjects

    subjects, notes = make_model_subjects(
        sizes, blocks, precisions, rows, folder, seed=seed, like_lstm_a=peers
    )
    if peers:
        from bench.peers.model_peer import make_peers

        made = make_peers(rows, folder, seed=seed)
        subjects += [peer.subject for peer in made]
        notes += [peer.note for peer in made]
    return _Made(subjects=subjects, notes=notes)


@contextmanager
def _one_thread() -> Iterator[None]:
    """PyTorch, where it is loaded for a peer or an export, on one thread."""
    from bench.peers.model_peer import one_torch_thread

    with one_torch_thread():
        yield
