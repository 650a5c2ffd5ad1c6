"""`mambalob bench`: what each part of the system takes, with the machine it was measured on."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bench.compiled_clock import CompiledClockReading
from bench.frame_source import capture_source, seeded_source
from bench.harness import ClockReading, Plan, Subject, run_interleaved
from bench.machine import describe_machine, preemptions_so_far
from bench.plot import plot_percentiles, require_plotting
from bench.report import encode_report, make_report, print_report
from bench.stages import available_engines, make_stages
from bench.weights import Block, Size, weights_to_time
from lob.errors import InputError


@click.group("bench")
def command() -> None:
    """Measure latency; ratios within one run compare, microseconds of two machines do not."""


@command.command("stages")
@click.option("--model", metavar="NAME|PATH", help="A trained model, instead of one of --size and --block.")
@click.option("--models-dir", type=click.Path(path_type=Path), help="Models beside those that ship.")
@click.option("--size", type=click.Choice(["nano", "small", "base"]), default="base", show_default=True)
@click.option("--block", type=click.Choice(["ssd", "s6"]), default="ssd", show_default=True)
@click.option("--capture", type=click.Path(path_type=Path), help="Its frames, instead of seeded ones.")
@click.option("--count", default=Plan.count, show_default=True, help="Timed calls of each stage.")
@click.option("--warmup", default=Plan.warmup, show_default=True, help="Untimed calls of each stage before.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of the frames, and of random weights.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@click.option("--png", type=click.Path(path_type=Path, dir_okay=False), help="Also draw percentile curves.")
def stages(
    model: str | None,
    models_dir: Path | None,
    size: Size,
    block: Block,
    capture: Path | None,
    count: int,
    warmup: int,
    seed: int,
    as_json: bool,
    png: Path | None,
) -> None:
    """Time every stage of a tick: decode, book, features, each engine, on_frame, encode.

    Without --model a shipped model of --size and --block is timed, else one with random weights, which needs
    the training extra: what a call takes depends on the sizes, not on the weights. The default frames are
    seeded Bybit deltas of exactly 3 bids and 3 asks on a book of 50 levels a side.

    A sample is one call between two readings of a clock, whose own cost is printed and not subtracted. Stages
    take turns in blocks of calls, so that ratios are fair on a busy machine. All are called from Python but
    features, which are timed inside one jitted call. Calls on snapshots, warming engines and messages that
    give no row are left out. Percentiles are samples themselves, the higher of two neighbours. The garbage
    collector is off while timing.
    """
    plan = Plan(count=count, warmup=warmup)
    if png is not None:
        require_plotting(png)
    if models_dir is not None and model is None:
        raise InputError(f"--models-dir: {models_dir} came without --model; name a model in it")
    source = seeded_source(seed) if capture is None else capture_source(capture)
    machine = describe_machine()
    with weights_to_time(model, size=size, block=block, seed=seed, models_dir=models_dir) as weights:
        timed = make_stages(source, weights.artifact, weights.label)
    subjects: list[Subject] = [*timed, ClockReading(), CompiledClockReading()]
    before = preemptions_so_far()
    with _progress() as on_progress:
        measured = run_interleaved(subjects, plan, on_progress)
    after = preemptions_so_far()
    results, clocks = measured[: len(timed)], measured[len(timed) :]
    report = make_report(
        results,
        clocks,
        frames=source.title,
        machine=machine,
        preemptions=None if before is None or after is None else after - before,
    )
    if png is not None:
        caption = f"{machine.processor}, {weights.label}, {source.title}\n{report.commit}"
        plot_percentiles(results, png, caption)
    if as_json:
        click.echo(encode_report(report))
        return
    print_report(
        report,
        [stage.method for stage in timed],
        Console(),
        compared=available_engines(weights.artifact),
    )


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
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
