"""`mambalob bench queue`: frames of many symbols that wait on a feed's socket, taken alone and in batches."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Final

import click
from msgspec.structs import replace

from bench.commands.options import (
    block_option,
    cpu_option,
    json_option,
    precision_option,
    runs_option,
    seed_option,
    size_option,
)
from bench.harness import ClockReading, Measured, Plan, run_interleaved
from bench.machine import describe_machine, load_average, preemptions_since, preemptions_so_far
from bench.pinning import pinned_to
from bench.queued_feed import WAYS, QueuedFeed
from bench.repeated_runs import RepeatedRuns
from bench.report import Result, encode_report, machine_report, print_report, report_of
from bench.symbol_frames import DEPTH
from bench.terminal import table_console, timing_progress
from bench.weights import Block, Size, weights_to_time
from inference.pipeline import Pipeline
from lob.errors import InputError
from lob.instrument import Instrument

TURN: Final = 800
"""About so many frames of one feed before the other's turn."""


@dataclass(frozen=True, kw_only=True)
class _Case:
    """Both ways for one number of symbols and of frames at once."""

    symbols: int
    waiting: int
    runs: list[list[Measured]]
    frame_ns: list[tuple[float, float]]
    """Processor time of a frame in each run, alone and in batches."""


@click.command("queue")
@size_option("base", "The model's size.")
@block_option("The model's state-space block.")
@precision_option("The number format that it answers in.")
@click.option(
    "--symbols",
    "numbers",
    type=click.IntRange(2, 1_000),
    multiple=True,
    default=(100,),
    show_default=True,
    help="How many there are; may be given again.",
)
@click.option(
    "--waiting",
    "waitings",
    type=click.IntRange(1, 10_000),
    multiple=True,
    default=(8, 32, 100, 800),
    show_default=True,
    help="Frames that are there at once; may be given again.",
)
@click.option("--count", default=8_000, show_default=True, help="Timed frames of each feed in a run.")
@runs_option(3)
@cpu_option()
@seed_option()
@json_option()
def command(
    size: Size,
    block: Block,
    precision: str,
    numbers: tuple[int, ...],
    waitings: tuple[int, ...],
    count: int,
    runs: int,
    cpu: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Time a service's feed on frames of many symbols that wait on its socket: from arrival to publication.

    The frames come from another process, each symbol's in turn, so many at once. `alone`: each frame's steps
    on their own. `batch`: as `serve --batch on`, where a queue is long the steps of several symbols are one
    call. Both ways take turns in this process, behind sockets of their own; nobody has subscribed.

    A latency runs from the moment at which a frame was read from the socket to its publication. Frames a
    second of one core stand in the lines below the table, from the processor time of all that the feed does.
    The garbage collector is off while timing.
    """
    for name, given in (("symbols", numbers), ("waiting", waitings)):
        if len(set(given)) != len(given):
            raise InputError(f"--{name}: {', '.join(map(str, given))} came; each is allowed once")
    if runs < 1:
        raise InputError(f"runs is {runs}; at least 1 is needed")
    with ExitStack() as stack:
        stack.enter_context(pinned_to(cpu))
        machine = describe_machine()
        weights = stack.enter_context(weights_to_time(None, size=size, block=block, seed=seed))
        first = Pipeline.create(
            weights.artifact,
            Instrument(symbol="FIRSTUSDT", tick_size="0.10"),
            precision=precision,
            depth=DEPTH,
        )
        loop = asyncio.new_event_loop()
        stack.callback(loop.close)
        before = preemptions_so_far()
        cases: list[_Case] = []
        with timing_progress() as on_progress:
            for symbols in numbers:
                for waiting in waitings:
                    with ExitStack() as feeds:
                        subjects = [
                            feeds.enter_context(
                                QueuedFeed(
                                    weights.artifact,
                                    first.engine,
                                    way,
                                    label=weights.label,
                                    symbols=symbols,
                                    waiting=waiting,
                                    seed=seed,
                                    loop=loop,
                                )
                            )
                            for way in WAYS
                        ]
                        cases.append(_measured(subjects, symbols, waiting, count=count, runs=runs))
                    if on_progress is not None:
                        on_progress(len(cases), len(numbers) * len(waitings))
        (clock,) = run_interleaved([ClockReading()], Plan(count=1_000))
        preemptions = preemptions_since(before)
    results = [result for case in cases for result in _results(case)]
    report = report_of(
        results,
        machine_report(
            machine,
            [clock],
            frames=f"seeded Bybit deltas, 3 bids and 3 asks each, depth {DEPTH}, seed {seed}",
            preemptions=preemptions,
            runs=runs,
            core=cpu,
            load_average_after=load_average(),
        ),
    )
    if as_json:
        click.echo(encode_report(report))
        return
    methods = [one.subject.method for case in cases for one in case.runs[0]]
    lines = [_line(case) for case in cases]
    print_report(report, methods, table_console(), ratios=lines)


def _measured(feeds: Sequence[QueuedFeed], symbols: int, waiting: int, *, count: int, runs: int) -> _Case:
    """Both feeds in turns of about the same length whatever a burst is, and of whole bursts."""
    turn = waiting * max(1, TURN // waiting)
    plan = Plan(count=turn * -(-count // turn), warmup=turn, block=turn, lead_in=waiting)
    found: list[list[Measured]] = []
    frame_ns: list[tuple[float, float]] = []
    for _ in range(runs):
        before = [(feed.frames, feed.spent_ns) for feed in feeds]
        found.append(run_interleaved(feeds, plan))
        alone, batch = (
            (feed.spent_ns - spent_ns) / (feed.frames - frames)
            for feed, (frames, spent_ns) in zip(feeds, before, strict=True)
        )
        frame_ns.append((alone, batch))
    return _Case(symbols=symbols, waiting=waiting, runs=found, frame_ns=frame_ns)


def _results(case: _Case) -> list[Result]:
    return [
        replace(result, ticks_per_s=round(median(1e9 / run[place] for run in case.frame_ns)))
        for place, result in enumerate(RepeatedRuns(runs=case.runs).results())
    ]


def _line(case: _Case) -> str:
    """What both ways come to, and their ratio: the median of the runs' own."""
    alone, batch = (one.ticks_per_s or 0 for one in _results(case))
    ratio = median(alone_ns / batch_ns for alone_ns, batch_ns in case.frame_ns)
    return (
        f"{case.symbols} symbols, {case.waiting} frames at once: {alone:,} frames a second of processor time "
        f"alone, {batch:,} in batches ({ratio:.2f} times)"
    )
