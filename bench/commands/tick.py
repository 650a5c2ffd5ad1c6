"""`mambalob bench tick`: a frame's bytes to a prediction, back to back and at the times an exchange sends."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import click
import numpy as np
from msgspec.structs import replace

from bench.commands.options import (
    block_option,
    cpu_option,
    html_option,
    json_option,
    png_option,
    precision_option,
    runs_option,
    seed_option,
    sizes_option,
)
from bench.fixed_arithmetic import FixedArithmetic, quiet_core
from bench.frame_source import FrameSource, seeded_source
from bench.harness import ClockReading, Measured, Plan, Subject, garbage_collector_off, run_interleaved
from bench.html_report import plain_page, require_files, write_files
from bench.machine import describe_machine, load_average, preemptions_since, preemptions_so_far
from bench.open_loop import SCHEDULES, OpenLoopTick
from bench.pauses import awake, rehearsing
from bench.pinning import pinned_to
from bench.repeated_runs import RepeatedRuns
from bench.report import (
    Result,
    encode_report,
    late_count,
    late_lines,
    machine_report,
    print_report,
    report_of,
)
from bench.row_subject import IDLE, IdleSubject, require_idle
from bench.stages import OnFrameStage
from bench.terminal import table_console, timing_progress
from bench.weights import Block, Size, Weights, weights_to_time
from lob.errors import InputError

MOST_US: Final = {"nano": 5.0, "small": 10.0, "base": 35.0}
"""The p50 in a closed loop that was to be reached, by size."""
MOST_SPREAD: Final = 3.0
"""p99 over p50 on a quiet core."""
TABLE_WIDTH: Final = 140


@click.command("tick")
@sizes_option()
@block_option("The state-space block.")
@precision_option("The number format that the model answers in.")
@click.option("--count", default=5_000, show_default=True, help="Timed ticks of a closed loop in a run.")
@click.option("--warmup", default=500, show_default=True, help="Untimed ticks before it.")
@click.option(
    "--seconds", default=3.0, show_default=True, help="Of each open loop in a run; 0 leaves them out."
)
@click.option(
    "--idle-ms",
    type=float,
    multiple=True,
    default=(1.0, 10.0, 20.0, 100.0),
    show_default=True,
    help="Also time ticks after so long asleep; may be given again.",
)
@click.option(
    "--idle-count", default=10, show_default=True, help="Such ticks in a run, of each; 0 leaves them out."
)
@runs_option(5)
@cpu_option()
@seed_option()
@json_option()
@png_option()
@html_option()
def command(
    sizes: tuple[Size, ...],
    block: Block,
    precision: str,
    count: int,
    warmup: int,
    seconds: float,
    idle_ms: tuple[float, ...],
    idle_count: int,
    runs: int,
    cpu: int | None,
    seed: int,
    as_json: bool,
    png: Path | None,
    html: Path | None,
) -> None:
    """Time a whole tick: a delta's bytes to calibrated probabilities, called from Python.

    The models are those `bench stages` takes without --model, the engine is what `auto` chooses. `on_frame`
    is the closed loop: the next frame when the last is done, sizes in turns. `on_frame-1x`, `-10x` and
    `-100x` are open loops at Bybit's rate for 50 levels (a frame in 20 ms), ten and a hundred times it,
    `on_frame-burst` 50 frames at once every second: a frame's latency runs from its intended send time, so
    what waits behind a slow tick is in it; how many took over a millisecond is counted. The process sleeps
    until half a millisecond before a frame is due, then watches the clock. `on_frame-idle-20ms` is a tick
    after 20 ms asleep, `on_frame-staged-idle-20ms` the same with each step a call of its own,
    `on_frame-awake-20ms` after as long watching the clock, and `on_frame-rehearsed-20ms` after as long with a
    tick rehearsed in each millisecond, as `mambalob serve --keep-warm-ms 1` has it; these take turns. The
    garbage collector is off while timing.
    """
    plan = Plan(count=count, warmup=warmup)
    _require(sizes, runs, seconds)
    for milliseconds in idle_ms:
        require_idle(milliseconds)
    require_files(png, html)
    source = seeded_source(seed)
    with ExitStack() as stack:
        stack.enter_context(pinned_to(cpu))
        machine = describe_machine()
        closed: list[Subject] = []
        open_loops: list[OpenLoopTick] = []
        after_idle: list[Subject] = []
        for size in sizes:
            weights = stack.enter_context(weights_to_time(None, size=size, block=block, seed=seed))
            closed.append(OnFrameStage(source, weights.artifact, "auto", weights.label, precision=precision))
            if idle_count > 0:
                after_idle += _after_idle(source, weights, idle_ms, precision)
            if seconds > 0:
                open_loops += [
                    OpenLoopTick(source, weights.artifact, weights.label, schedule, precision=precision)
                    for schedule in SCHEDULES
                ]
        before = preemptions_so_far()
        clock, arithmetic = ClockReading(), FixedArithmetic()
        idle_plan = Plan(count=max(idle_count, 1), warmup=0, block=1, lead_in=0)
        found: list[list[Measured]] = []
        clocks: list[Measured] = []
        arithmetics: list[Measured] = []
        with timing_progress() as on_progress:
            for run in range(runs):
                *loops, clock_now, arithmetic_now = run_interleaved([*closed, clock, arithmetic], plan)
                clocks = [clock_now]
                arithmetics.append(arithmetic_now)
                idle = run_interleaved(after_idle, idle_plan) if after_idle else []
                found.append([*loops, *_open_loops(open_loops, seconds), *idle])
                if on_progress is not None:
                    on_progress(run + 1, runs)
        preemptions = preemptions_since(before)
    results = tick_results(found)
    targets = [*tick_targets(sizes, results), *late_lines(results)]
    report = report_of(
        results,
        machine_report(
            machine,
            clocks,
            frames=source.title,
            preemptions=preemptions,
            quiet_core=quiet_core(arithmetics),
            targets=targets,
            runs=runs,
            core=cpu,
            load_average_after=load_average(),
        ),
    )
    methods = [one.subject.method for one in found[0]]
    page = plain_page(
        report,
        methods,
        title="mambalob bench tick",
        explained="From a frame's bytes to calibrated probabilities, in one process, without sockets",
        targets=targets,
        caption=f"{machine.processor}, {runs} runs\n{report.commit}",
    )
    write_files(page, png=png, html=html)
    if as_json:
        click.echo(encode_report(report))
        return
    print_report(report, methods, table_console(TABLE_WIDTH), ratios=targets)


def tick_results(runs: Sequence[Sequence[Measured]]) -> list[Result]:
    """A result a subject over all runs; those of an open loop count what was late."""
    found = []
    for place, result in enumerate(RepeatedRuns(runs=[list(run) for run in runs]).results()):
        of_runs = [run[place] for run in runs]
        is_open = isinstance(of_runs[0].subject, OpenLoopTick)
        late = sum(late_count(one.durations_ns) for one in of_runs)
        found.append(replace(result, late=late) if is_open else result)
    return found


def tick_targets(sizes: Sequence[Size], results: Sequence[Result]) -> list[str]:
    """What was set for the closed loop of each size, whose results come in the order of `sizes`."""
    closed = [result for result in results if result.subject == OnFrameStage.name]
    lines = []
    for size, result in zip(sizes, closed, strict=True):
        spread = result.p99 / result.p50
        lines.append(
            f"{size}: p50 {result.p50:.2f} us, target below {MOST_US[size]:g} us"
            f"{_missed(result.p50 >= MOST_US[size])}; p99 {spread:.1f} times p50, "
            f"target at most {MOST_SPREAD:g} on a quiet core{_missed(spread > MOST_SPREAD)}"
        )
    return lines


def _missed(missed: bool) -> str:
    return " (missed)" if missed else ""


def _after_idle(
    source: FrameSource, weights: Weights, idle_ms: Sequence[float], precision: str
) -> list[Subject]:
    """For each pause a tick as one call and, where the engine has both, one as single steps.

    The one call also after as long awake, and after a pause in which ticks were rehearsed.
    """
    one_call = OnFrameStage(source, weights.artifact, "auto", weights.label, precision=precision)
    ways = [one_call]
    if one_call.pipeline.engine.name == "fused":
        ways.append(
            OnFrameStage(source, weights.artifact, "fused", weights.label, precision=precision, staged=True)
        )
    pauses = (
        ("-awake", awake, "watching the clock"),
        ("-rehearsed", rehearsing(one_call.pipeline), "asleep, a tick rehearsed in each"),
    )
    subjects: list[Subject] = []
    for milliseconds in idle_ms:
        suffix = f"-{milliseconds:g}ms"
        subjects += [IdleSubject(way, milliseconds, suffix=IDLE + suffix) for way in ways]
        subjects += [
            IdleSubject(one_call, milliseconds, suffix=name + suffix, pause=pause, spent=spent)
            for name, pause, spent in pauses
        ]
    return subjects


def _open_loops(loops: Sequence[OpenLoopTick], seconds: float) -> list[Measured]:
    """Every loop for `seconds`, one after the other."""
    measured = []
    with garbage_collector_off():
        for loop in loops:
            durations_ns = np.zeros(loop.schedule.frames_in(seconds), dtype=np.int64)
            loop.measure(durations_ns)
            measured.append(Measured(subject=loop, durations_ns=durations_ns))
    return measured


def _require(sizes: Sequence[str], runs: int, seconds: float) -> None:
    """Raise InputError for what cannot be run."""
    if len(set(sizes)) != len(sizes):
        raise InputError(f"--size: {', '.join(sizes)} came; each is allowed once")
    if runs < 1:
        raise InputError(f"runs is {runs}; at least 1 is needed")
    if not 0 <= seconds <= 3600:
        raise InputError(f"seconds is {seconds}; 0 to 3600 is allowed")
