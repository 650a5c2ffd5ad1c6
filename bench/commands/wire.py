"""`mambalob bench wire`: from an exchange's socket to subscribers' sockets, a process for each."""

from pathlib import Path
from typing import Final

import click
from msgspec.structs import replace

from bench.commands.options import (
    cpu_option,
    html_option,
    json_option,
    model_options,
    png_option,
    seed_option,
)
from bench.frame_source import seeded_source
from bench.harness import ClockReading, Plan, run_interleaved
from bench.html_report import plain_page, require_files, write_files
from bench.machine import describe_machine, load_average
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
from bench.terminal import table_console, timing_progress
from bench.weights import Block, Size, weights_to_time
from bench.wire.phases import make_phases
from bench.wire.run import WireRun, run_wire
from serve.keep_warm import KeepWarmPolicy

CLOCK_READINGS: Final = Plan(count=2_000, warmup=100)
TABLE_WIDTH: Final = 160


@click.command("wire")
@model_options("small")
@click.option(
    "--subscribers",
    type=click.IntRange(min=1),
    multiple=True,
    default=(1, 8, 32),
    show_default=True,
    help="How many there are; may be given again. Where there are several, one of them is slow.",
)
@click.option("--keep-warm-ms", type=float, metavar="MS", help="As `mambalob serve` has it.")
@click.option("--busy-poll", is_flag=True, help="As `mambalob serve` has it.")
@click.option("--count", default=1_000, show_default=True, help="Frames of a closed loop; 0 leaves it out.")
@click.option("--seconds", default=3.0, show_default=True, help="Of each open loop; 0 leaves them out.")
@cpu_option("Keep the service on core N, and the other processes off it.")
@seed_option()
@json_option()
@png_option()
@html_option()
def command(
    model: str | None,
    models_dir: Path | None,
    size: Size,
    block: Block,
    subscribers: tuple[int, ...],
    keep_warm_ms: float | None,
    busy_poll: bool,
    count: int,
    seconds: float,
    cpu: int | None,
    seed: int,
    as_json: bool,
    png: Path | None,
    html: Path | None,
) -> None:
    """Time the whole way over real sockets: exchange, feed, pipeline, hub, websocket subscribers.

    The exchange, the service of `mambalob serve` and the subscribers are a process each, on this machine. A
    phase is a closed loop (the next frame when every fast subscriber has what came of the last) or an open
    one, at the rates of `bench tick`: Bybit's, ten and a hundred times it, and bursts. `wire-1x/8` is the
    whole way at Bybit's rate with 8 subscribers, from a frame's intended time to the receipt of its
    prediction, a sample for each fast subscriber; `wire-1x/8:received` and so on are its parts in their
    order. `lost` counts frames without a prediction, `missed` predictions that a fast subscriber was not
    given because a newer one came first, `slow missed` those of a slow one until the phase's end. All
    processes read one clock. The service's garbage collector is as `mambalob serve` leaves it, and reported;
    the other processes run without.
    """
    require_files(png, html)
    phases = make_phases(subscribers, count=count, seconds=seconds)
    keep_warm = KeepWarmPolicy(every_ms=keep_warm_ms, busy_poll=busy_poll)
    machine = describe_machine()
    (clock,) = run_interleaved([ClockReading()], CLOCK_READINGS)
    with (
        weights_to_time(model, size=size, block=block, seed=seed, models_dir=models_dir) as weights,
        timing_progress() as on_progress,
    ):
        run = run_wire(
            phases,
            seed=seed,
            model=weights.artifact.directory,
            keep_warm=keep_warm,
            core=cpu,
            on_progress=on_progress,
        )
    results = wire_results(run)
    report = report_of(
        results,
        machine_report(
            machine,
            [clock],
            frames=seeded_source(seed).title,
            preemptions=run.account.preemptions,
            core=cpu,
            load_average_after=load_average(),
            garbage_collector=run.account.collections,
        ),
        peers=["websockets", "uvicorn", "uvloop"],
    )
    methods = [one.subject.method for outcome in run.outcomes for one in outcome.measured]
    page = plain_page(
        report,
        methods,
        title="mambalob bench wire",
        explained="From an exchange's socket to its subscribers' sockets, and the parts of the way",
        targets=late_lines(results),
        caption=f"{machine.processor}, {run.served.model}, engine {run.served.engine}\n{report.commit}",
    )
    write_files(page, png=png, html=html)
    if as_json:
        click.echo(encode_report(report))
        return
    print_report(report, methods, table_console(TABLE_WIDTH), ratios=late_lines(results))


def wire_results(run: WireRun) -> list[Result]:
    """A result for each phase's whole way, with its counts, and one for each part of the way."""
    results = []
    for outcome in run.outcomes:
        whole, *parts = RepeatedRuns(runs=[outcome.measured]).results()
        counts = replace(
            whole,
            late=late_count(outcome.measured[0].durations_ns) if outcome.is_open else None,
            lost=outcome.lost,
            missed=outcome.missed,
            missed_slow=outcome.missed_slow,
        )
        results += [counts, *parts]
    return results
