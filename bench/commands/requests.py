"""`mambalob bench requests`: how long the event loop's turns get while the service is asked over HTTP."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import numpy as np

from bench.commands.options import cpu_option, json_option, seed_option
from bench.harness import Measured, TableRow
from bench.loop_turns import ROUTES, RouteTurns, measure_turns
from bench.machine import describe_machine, load_average, preemptions_since, preemptions_so_far
from bench.pinning import pinned_to
from bench.repeated_runs import RepeatedRuns
from bench.report import encode_report, machine_report, print_report, report_of
from bench.terminal import table_console
from inference.registry import load_model
from lob.errors import InputError
from serve.process import run_until_signalled

LONGEST_BELOW_MS: Final = 1.0
"""What a turn may take of the processor."""


@click.command("requests")
@click.option(
    "--model", default="btc-perp-ssd-small", show_default=True, metavar="NAME|PATH", help="A trained model."
)
@click.option(
    "--symbols", type=click.IntRange(1, 5_000), default=300, show_default=True, help="How many are served."
)
@click.option(
    "--route",
    "routes",
    multiple=True,
    default=ROUTES,
    show_default=True,
    help="What is asked for; may be given again. {symbol} stands for one that is served.",
)
@click.option(
    "--requests",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="Of each route, one after the other.",
)
@click.option(
    "--idle-s",
    type=click.FloatRange(0.1, 600),
    default=5.0,
    show_default=True,
    help="So long nothing is asked, to have something to compare with.",
)
@cpu_option()
@seed_option()
@json_option()
def command(
    model: str,
    symbols: int,
    routes: tuple[str, ...],
    requests: int,
    idle_s: float,
    cpu: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Time the event loop's turns while a service of many symbols is asked over HTTP.

    A frame that arrives during a turn waits for its end, so the longest turn is what a request can cost a
    frame. `turn-` are all turns while requests are answered, `longest-` the longest of each request,
    `answer-` the time from a request to the end of its answer; `idle` is while nothing is asked, 0.1 s for a
    request. Below the table stands what the longest turns took of the processor, without the time for which
    other work had the core. The symbols are live and connected; no frames come. The garbage collector is on,
    as in the service.
    """
    wrong = [route for route in routes if not route.startswith("/")]
    if wrong:
        raise InputError(f"--route: {wrong[0]!r} came; a path that begins with / is allowed")
    artifact = load_model(model, None)
    with pinned_to(cpu):
        machine = describe_machine()
        before = preemptions_so_far()
        found = run_until_signalled(
            measure_turns(
                Path(artifact.directory), symbols, routes, requests=requests, idle_s=idle_s, seed=seed
            )
        )
        preemptions = preemptions_since(before)
    if found is None:
        raise InputError("stopped before the end")
    measured = measured_turns(found, symbols)
    targets = [longest_turn(one, symbols) for one in found]
    report = report_of(
        RepeatedRuns(runs=[measured]).results(),
        machine_report(
            machine,
            [],
            frames="none while timing",
            preemptions=preemptions,
            models=[artifact.name],
            targets=targets,
            core=cpu,
            load_average_after=load_average(),
            garbage_collector="on, objects of the start frozen, as in the service",
        ),
        peers=["fastapi", "uvicorn", "prometheus-client"],
    )
    if as_json:
        click.echo(encode_report(report))
        return
    print_report(report, [one.subject.method for one in measured], table_console(), ratios=targets)


def measured_turns(found: Sequence[RouteTurns], symbols: int) -> list[Measured]:
    """For each route, the first being none: all turns, the longest ones, and the answers."""

    def subject(name: str, method: str) -> TableRow:
        return TableRow(name=name, model=f"{symbols} symbols", precision="none", method=method)

    measured = []
    for one in found:
        route = one.route or "idle"
        asked = f"GET {one.route} is answered" if one.route else "nothing is asked"
        rows = [
            ("turn", f"a turn of the event loop while {asked}", one.turns_ns),
            ("longest", "the longest turn during a request", one.longest_ns),
            ("answer", "from the request to the end of its answer", one.answers_ns),
        ]
        measured += [
            Measured(subject=subject(f"{name}-{route}", method), durations_ns=durations_ns)
            for name, method, durations_ns in rows
            if one.route or name != "answer"
        ]
    return measured


def longest_turn(one: RouteTurns, symbols: int) -> str:
    """What the longest turns took of the processor, held against what they may."""
    middle_ms, most_ms = (int(np.quantile(one.processor_ns, q, method="higher")) / 1e6 for q in (0.5, 1))
    missed = " (missed)" if middle_ms >= LONGEST_BELOW_MS else ""
    return (
        f"{one.route or 'idle'}, {symbols} symbols: the longest turn of a request takes {middle_ms:.2f} ms "
        f"of the processor (p50 of {one.processor_ns.size}; {most_ms:.2f} at most), target below "
        f"{LONGEST_BELOW_MS:g} ms{missed}"
    )
