"""`mambalob bench start`: how soon a service is ready, and what memory it holds."""

import asyncio
from collections.abc import Sequence
from typing import Final

import click
import numpy as np

from bench.commands.options import json_option
from bench.machine import describe_machine, load_average
from bench.report import Result, condition_lines, encode_report, machine_report, report_of
from bench.samples import summarize
from bench.service_start import ServiceStart, measure_starts
from lob.errors import InputError

READY_BELOW_S: Final = 2.0
MEMORY_BELOW_MIB: Final = 250.0


@click.command("start")
@click.option(
    "--model", default="btc-perp-ssd-small", show_default=True, metavar="NAME|PATH", help="A trained model."
)
@click.option("--runs", default=5, show_default=True, help="Starts; one more, before them, is not counted.")
@json_option()
def command(model: str, runs: int, as_json: bool) -> None:
    """Start `mambalob serve` with one symbol, again and again: time until ready, and resident memory.

    A local exchange plays the simulated market at Bybit's rate. `start-listening` is the time from the start
    of the process until it says where it listens, with its model loaded, probed and warm; `start-ready` until
    `/readyz` says that the symbol is live, which takes the model's first 32 rows, some 0.65 s at that rate.
    `start-processor` is the processor time until then, which other work on the machine does not lengthen, and
    `resident-memory` what the process holds. Kernels come from the cache, which a first start fills.
    """
    if runs < 1:
        raise InputError(f"runs is {runs}; at least 1 is needed")
    machine = describe_machine()
    starts = asyncio.run(measure_starts(model, runs=runs))
    results = start_results(model, starts)
    targets = start_targets(results)
    report = report_of(
        results,
        machine_report(
            machine,
            [],
            frames="simulated market at Bybit's rate",
            preemptions=None,
            targets=targets,
            load_average_after=load_average(),
            garbage_collector="as the service has it",
        ),
        peers=["fastapi", "uvicorn", "websockets"],
    )
    if as_json:
        click.echo(encode_report(report))
        return
    for one in results:
        click.echo(
            f"{one.subject}: p50 {one.p50:,.1f} {one.unit}, largest {one.max:,.1f}, {one.count} starts"
        )
    for line in (*targets, f"model: {model}, engine {starts[0].engine}", *condition_lines(report)):
        click.echo(line)


def start_results(model: str, starts: Sequence[ServiceStart]) -> list[Result]:
    """Times in milliseconds, memory in MiB; what the system does not say is left out."""
    columns: list[tuple[str, str, Sequence[int | None], float]] = [
        ("start-listening", "ms", [one.listening_ns for one in starts], 1e6),
        ("start-ready", "ms", [one.ready_ns for one in starts], 1e6),
        ("start-processor", "ms", [one.processor_ns for one in starts], 1e6),
        ("resident-memory", "MiB", [one.resident_bytes for one in starts], 2.0**20),
    ]
    results = []
    for subject, unit, values, scale in columns:
        told = [value for value in values if value is not None]
        if told:
            found = summarize(np.array(told, dtype=np.int64))
            results.append(
                Result(
                    subject=subject,
                    model=model,
                    precision="none",
                    unit=unit,
                    count=found.count,
                    p50=found.p50_ns / scale,
                    p90=found.p90_ns / scale,
                    p99=found.p99_ns / scale,
                    p999=found.p999_ns / scale,
                    max=found.max_ns / scale,
                )
            )
    return results


def start_targets(results: Sequence[Result]) -> list[str]:
    """What was set for the start and the memory, and what was found."""
    by_name = {one.subject: one for one in results}
    ready_s = by_name["start-ready"].p50 / 1000
    missed = _missed(ready_s >= READY_BELOW_S)
    lines = [f"ready after {ready_s:.2f} s (p50), target below {READY_BELOW_S:g} s{missed}"]
    if "resident-memory" in by_name:
        mib = by_name["resident-memory"].max
        missed = _missed(mib >= MEMORY_BELOW_MIB)
        lines.append(f"resident memory at most {mib:.0f} MiB, target below {MEMORY_BELOW_MIB:g} MiB{missed}")
    return lines


def _missed(missed: bool) -> str:
    return " (missed)" if missed else ""
