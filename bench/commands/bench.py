"""`mambalob bench`: what each part of the system takes, with the machine it was measured on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from bench.book_comparison import book_ratios, compare_books
from bench.books import CHANGES_A_SIDE, make_book_subjects
from bench.commands.engines import command as engines_command
from bench.commands.options import json_option, model_options, png_option, precision_option, seed_option
from bench.commands.queue import command as queue_command
from bench.commands.requests import command as requests_command
from bench.commands.start import command as start_command
from bench.commands.switch import command as switch_command
from bench.commands.symbols import command as symbols_command
from bench.commands.tick import command as tick_command
from bench.commands.wire import command as wire_command
from bench.compiled_clock import CompiledClockReading
from bench.frame_source import capture_source, seeded_source
from bench.harness import ClockReading, Measured, Plan, Subject, run_interleaved
from bench.machine import describe_machine, preemptions_since, preemptions_so_far
from bench.peers.book_peer import DISTRIBUTIONS, installed_peers
from bench.plot import plot_percentiles, require_plotting
from bench.report import encode_report, make_report, print_report
from bench.stages import available_engines, make_stages
from bench.terminal import table_console, timing_progress
from bench.weights import Block, Size, weights_to_time
from lob.errors import InputError


@click.group("bench")
def command() -> None:
    """Measure latency; ratios within one run compare, microseconds of two machines do not."""


command.add_command(engines_command)
command.add_command(requests_command)
command.add_command(queue_command)
command.add_command(start_command)
command.add_command(switch_command)
command.add_command(symbols_command)
command.add_command(tick_command)
command.add_command(wire_command)


@command.command("stages")
@model_options("base")
@precision_option("The number format of the tick, and of the engines that offer it.")
@click.option("--capture", type=click.Path(path_type=Path), help="Its frames, instead of seeded ones.")
@click.option("--count", default=Plan.count, show_default=True, help="Timed calls of each stage.")
@click.option("--warmup", default=Plan.warmup, show_default=True, help="Untimed calls of each stage before.")
@seed_option("Of the frames, and of random weights.")
@json_option()
@png_option("Also draw percentile curves.")
def stages(
    model: str | None,
    models_dir: Path | None,
    size: Size,
    block: Block,
    precision: str,
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
        timed = make_stages(source, weights.artifact, weights.label, precision)
    run = _measure(timed, [ClockReading(), CompiledClockReading()], plan)
    report = make_report(
        run.results, run.clocks, frames=source.title, machine=machine, preemptions=run.preemptions
    )
    if png is not None:
        caption = f"{machine.processor}, {weights.label}, {source.title}\n{report.commit}"
        plot_percentiles(run.results, png, caption)
    if as_json:
        click.echo(encode_report(report))
        return
    print_report(
        report,
        [stage.method for stage in timed],
        table_console(),
        compared=available_engines(weights.artifact),
    )


@command.command("book")
@click.option(
    "--depth",
    "depths",
    type=click.Choice([str(depth) for depth in CHANGES_A_SIDE]),
    multiple=True,
    help="Levels a side of the book; may be given again. Default: all.",
)
@click.option("--count", default=5_000, show_default=True, help="Timed calls of each subject.")
@click.option("--warmup", default=200, show_default=True, help="Untimed calls of each subject before.")
@seed_option()
@json_option()
@png_option("Also draw percentile curves.")
def book(
    depths: tuple[str, ...], count: int, warmup: int, seed: int, as_json: bool, png: Path | None
) -> None:
    """Time our order book beside pybit's, cryptofeed's in C and SortedDict's, on the same messages.

    The frames are seeded Bybit deltas: 3 bids and 3 asks on a book of 50 levels a side, 10 and 10 on 200, 30
    and 30 on 1000. `book` takes a message whose levels are still JSON text; a peer takes decoded JSON, so its
    decoding is left out and our reading of numbers is not. `-best` reads the best bid and ask as well, as one
    peer sorts only then. `row` and the peers' `-frame` start from the frame: `row` also writes the feature
    row. Each peer runs its authors' own code, or its adapter's loop; the table says what is timed.

    All take turns in blocks of calls. After the run every book is compared with ours level by level; a
    difference is an error and no figure is printed. A peer that is not installed (extra `peers`) is left out
    with a note on standard error.
    """
    plan = Plan(count=count, warmup=warmup)
    if png is not None:
        require_plotting(png)
    peers, absent = installed_peers()
    for name in absent:
        click.echo(
            f"Note: {name} is left out, {DISTRIBUTIONS[name]} is not installed: "
            "pip install 'mambalob[peers]'",
            err=True,
        )
    machine = describe_machine()
    chosen = [depth for depth in CHANGES_A_SIDE if not depths or str(depth) in depths]
    groups = [make_book_subjects(depth, peers, seed=seed, frames=1 + plan.calls) for depth in chosen]
    timed = [stage for group in groups for stage in group.stages]
    run = _measure(timed, [ClockReading()], plan)
    checks = [
        f"{compare_books(group.stages)} more books of {group.stages[0].model} equal ours at every level"
        for group in groups
    ]
    report = make_report(
        run.results,
        run.clocks,
        frames="; ".join(group.source.title for group in groups),
        machine=machine,
        preemptions=run.preemptions,
        checks=checks,
        peers=[DISTRIBUTIONS[name] for name in peers],
    )
    if png is not None:
        plot_percentiles(run.results, png, f"{machine.processor}, seed {seed}\n{report.commit}")
    if as_json:
        click.echo(encode_report(report))
        return
    print_report(
        report, [stage.method for stage in timed], table_console(), ratios=book_ratios(report.results)
    )


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What was measured, and how often the system took the core away meanwhile."""

    results: list[Measured]
    clocks: list[Measured]
    preemptions: int | None


def _measure(timed: Sequence[Subject], clocks: Sequence[Subject], plan: Plan) -> _Run:
    """Time the subjects and the clocks in turns."""
    before = preemptions_so_far()
    with timing_progress() as on_progress:
        measured = run_interleaved([*timed, *clocks], plan, on_progress)
    preemptions = preemptions_since(before)
    return _Run(
        results=measured[: len(timed)],
        clocks=measured[len(timed) :],
        preemptions=preemptions,
    )
