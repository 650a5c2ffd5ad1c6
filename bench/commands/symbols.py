"""`mambalob bench symbols`: throughput and latency of whole ticks against the number of symbols."""

from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median
from typing import Final

import click
from msgspec.structs import replace

from bench.commands.options import (
    block_option,
    cpu_option,
    json_option,
    runs_option,
    seed_option,
    sizes_option,
)
from bench.harness import ClockReading, Measured, Plan, run_interleaved
from bench.machine import describe_machine, load_average, preemptions_since, preemptions_so_far
from bench.pinning import pinned_to
from bench.repeated_runs import RepeatedRuns
from bench.report import Result, encode_report, machine_report, print_report, report_of
from bench.symbol_arrivals import ARRIVALS, Arrivals
from bench.symbol_pool import SymbolPool
from bench.symbol_subjects import WAYS, SymbolTicks
from bench.terminal import table_console, timing_progress
from bench.weights import Block, Size, weights_to_time
from inference.fused.step_batch import CAPACITY
from lob.errors import InputError

SYMBOLS: Final = (1, 10, 50, 100, 200, 500)
MOST_SYMBOLS: Final = 5_000
TURN: Final = 1_000
"""Timed ticks of a turn: so many that hundreds of symbols have each been due when it ends."""


@click.command("symbols")
@sizes_option()
@block_option("The models' state-space block.")
@click.option(
    "--symbols",
    "numbers",
    type=click.IntRange(1, MOST_SYMBOLS),
    multiple=True,
    default=SYMBOLS,
    show_default=True,
    help="How many there are; may be given again.",
)
@click.option(
    "--arrivals",
    type=click.Choice(ARRIVALS),
    multiple=True,
    default=ARRIVALS,
    show_default=True,
    help="Whose frame comes next; may be given again.",
)
@click.option("--count", default=4_000, show_default=True, help="Timed ticks of each subject in a run.")
@runs_option(3)
@cpu_option()
@seed_option()
@json_option()
def command(
    sizes: tuple[Size, ...],
    block: Block,
    numbers: tuple[int, ...],
    arrivals: tuple[Arrivals, ...],
    count: int,
    runs: int,
    cpu: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Time whole ticks, a delta's bytes to probabilities, of many symbols that share one model and one core.

    Every symbol has its own book of 50 levels a side, ring and state. Frames come from each in turn
    (`round-robin`), or from the r-th busiest 1 / r as often as from the busiest (`zipf`). `alone`: one frame
    at a time. `burst`: several frames are there at once, as a socket holds them after a pause, and are taken
    one after the other. `batch`: the same with their steps in one call, which reads each weight once for all.
    A latency of the last two runs from the moment all frames are there.

    Ticks a second on one core stand in the lines below the table. A subject's turn is 1,000 ticks after 500
    untimed ones, so that what a symbol finds in the caches is what the others have left. The garbage
    collector is off while timing.
    """
    _require(sizes, numbers, arrivals, runs)
    count = -(-count // CAPACITY) * CAPACITY
    plan = Plan(count=count, warmup=CAPACITY, block=TURN, lead_in=TURN // 2 // CAPACITY * CAPACITY)
    with ExitStack() as stack:
        stack.enter_context(pinned_to(cpu))
        machine = describe_machine()
        subjects: list[SymbolTicks] = []
        notes = []
        for size in sizes:
            weights = stack.enter_context(weights_to_time(None, size=size, block=block, seed=seed))
            pool = SymbolPool(weights.artifact, max(numbers), seed=seed)
            notes.append(
                f"{weights.label}: {max(numbers)} symbols were made in {pool.seconds:.2f} s, "
                f"{pool.kib_a_symbol:.0f} KiB resident each when warm"
            )
            subjects += [
                SymbolTicks(pool, weights.label, way, one, number, seed=seed)
                for one in arrivals
                for number in numbers
                for way in WAYS
            ]
        before = preemptions_so_far()
        clock = ClockReading()
        found: list[list[Measured]] = []
        clocks: list[Measured] = []
        with timing_progress() as on_progress:
            for run in range(runs):
                *measured, clock_now = run_interleaved([*subjects, clock], plan)
                found.append(measured)
                clocks = [clock_now]
                if on_progress is not None:
                    on_progress(run + 1, runs)
        preemptions = preemptions_since(before)
    results = symbol_results(subjects, found)
    lines = throughput_lines(results)
    report = report_of(
        results,
        machine_report(
            machine,
            clocks,
            frames=f"seeded Bybit deltas, 3 bids and 3 asks each, depth 50, seed {seed}",
            preemptions=preemptions,
            models=notes,
            runs=runs,
            core=cpu,
            load_average_after=load_average(),
        ),
    )
    if as_json:
        click.echo(encode_report(report))
        return
    methods = [subject.method for subject in subjects]
    print_report(report, methods, table_console(), ratios=lines)


def symbol_results(subjects: Sequence[SymbolTicks], runs: list[list[Measured]]) -> list[Result]:
    """A result a subject, with the ticks a second it came to: the median of the runs."""
    results = []
    for place, result in enumerate(RepeatedRuns(runs=runs).results()):
        rates = [
            run[place].durations_ns.size * 1e9 / subjects[place].busy_ns(run[place].durations_ns)
            for run in runs
        ]
        results.append(replace(result, ticks_per_s=round(median(rates))))
    return results


def throughput_lines(results: Sequence[Result]) -> list[str]:
    """For each model and kind of arrival what each way comes to, by the number of symbols."""
    lines = []
    for alone, burst, batch in zip(results[::3], results[1::3], results[2::3], strict=True):
        rates = [one.ticks_per_s or 0 for one in (alone, burst, batch)]
        lines.append(
            f"{alone.model}, {alone.subject.removeprefix('alone-')}: {rates[0]:,} ticks a second alone, "
            f"{rates[1]:,} in bursts one by one, {rates[2]:,} in batches ({rates[2] / rates[1]:.2f} times)"
        )
    return lines


def _require(sizes: Sequence[str], numbers: Sequence[int], arrivals: Sequence[str], runs: int) -> None:
    """Raise InputError for what cannot be run."""
    for name, given in (("size", sizes), ("symbols", numbers), ("arrivals", arrivals)):
        if len(set(given)) != len(given):
            raise InputError(f"--{name}: {', '.join(map(str, given))} came; each is allowed once")
    if runs < 1:
        raise InputError(f"runs is {runs}; at least 1 is needed")
