"""`mambalob bench switch`: models switched under load, every tick accounted for."""

import random
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import reduce
from operator import add
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click
import msgspec
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from bench.commands.options import (
    block_option,
    cpu_option,
    json_option,
    precision_option,
    seed_option,
    size_option,
)
from bench.frame_source import kept_in_memory, seeded_source
from bench.harness import Measured, TableRow
from bench.machine import describe_machine, load_average, preemptions_since, preemptions_so_far
from bench.pinning import pinned_to
from bench.report import Report, machine_report, print_report, report_of, result_of
from bench.switching import Mode, SwitchCounts, SwitchingService, Turn
from bench.terminal import table_console, timing_progress
from bench.weights import Block, Size
from inference.engines.selection import ENGINE_NAMES
from inference.model_store import ModelStore
from inference.registry import VERSION_MARK
from inference.training_extra import INSTALL_TRAINING_EXTRA
from lob.errors import InputError
from serve.process import run_until_signalled

FRAMES: Final = 50_000
"""Played again and again, from a snapshot each time."""
VERSIONS: Final = 3
"""The one that serves and the one before are kept loaded: of three in turns, each is read from the disk."""


class SwitchReport(Report, frozen=True, kw_only=True):
    """One run: its figures, and what became of the ticks of each mode."""

    switching: list[SwitchCounts]


@click.command("switch")
@size_option("small", "The models' size.")
@block_option("The models' state-space block.")
@click.option(
    "--engine",
    type=click.Choice(ENGINE_NAMES),
    default="auto",
    show_default=True,
    help="What runs the models.",
)
@precision_option("The number format that they answer in.")
@click.option(
    "--switches",
    type=click.IntRange(1, 100_000),
    default=1_000,
    show_default=True,
    help="So many switches of the model are timed.",
)
@cpu_option()
@seed_option("Of what is drawn.")
@json_option()
def command(
    size: Size,
    block: Block,
    engine: str,
    precision: str,
    switches: int,
    cpu: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Switch models under 100 times Bybit's rate: no tick may be missed, doubled, or more than 1 ms late.

    `steady` has no switches: what is late there, the machine makes late. `loaded` switches to and fro
    between two models that are in memory, as a rollback does; `anew` among three versions, each read from
    the disk, verified and probed by another process at every switch. Both warm the model that comes in on
    the last 100 rows. The three take turns of 25 switches, with as many ticks each. A tick is a delta of 3
    bids and 3 asks every 0.2 ms, its latency from its intended time to its publication, with one
    subscriber; a switch from its request to the moment it has happened. The garbage collector is on, as
    in the service. Weights are random, which needs the training extra.
    """
    with ExitStack() as stack:
        stack.enter_context(pinned_to(cpu))
        machine = describe_machine()
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="mambalob-bench-")))
        models = _install_versions(folder, size, block, seed)
        source = kept_in_memory(seeded_source(seed), FRAMES)
        before = preemptions_so_far()
        service: list[SwitchingService] = []
        on_progress = stack.enter_context(timing_progress())

        async def measured() -> list[dict[Mode, Turn]]:
            service.append(SwitchingService(source, folder / "models", models, engine, precision))
            try:
                return await service[0].take_turns(switches, random.Random(seed), on_progress)  # noqa: S311
            finally:
                await service[0].switcher.stop()

        found = run_until_signalled(measured())
        preemptions = preemptions_since(before)
    if found is None:
        raise InputError("stopped before the end")
    modes = list(found[0])
    counts = [reduce(add, (turns[mode].counts for turns in found)) for mode in modes]
    model = models[0].partition(VERSION_MARK)[0]
    measured_ones = _measured(found, model, precision)
    targets = [_verdict(one, counts[0]) for one in counts[1:]]
    report = report_of(
        [result_of([one]) for one in measured_ones],
        machine_report(
            machine,
            [],
            frames=source.title,
            preemptions=preemptions,
            targets=targets,
            core=cpu,
            load_average_after=load_average(),
            garbage_collector="on, objects of the start frozen, as in the service",
        ),
    )
    if as_json:
        fields = {name: getattr(report, name) for name in Report.__struct_fields__}
        click.echo(msgspec.json.encode(SwitchReport(**fields, switching=counts)))
        return
    console = table_console()
    print_report(report, [one.subject.method for one in measured_ones], console, ratios=targets)
    console.print(_table(counts))


def _install_versions(folder: Path, size: Size, block: Block, seed: int) -> list[str]:
    """Versions of one model, of different weights, in a directory of models; their names."""
    try:
        from bench.random_model import export_random_model  # needs the training extra
    except ModuleNotFoundError as error:
        raise InputError(f"random weights need {error.name}: {INSTALL_TRAINING_EXTRA}") from error
    store = ModelStore(folder / "models")
    names = []
    for number in range(VERSIONS):
        version = str(number + 1)
        export_random_model(folder / version, size=size, block=block, seed=seed + number, version=version)
        manifest = store.install(folder / version).artifact.manifest
        names.append(f"{manifest.name}{VERSION_MARK}{manifest.version}")
    return names


def _measured(rounds: Sequence[Mapping[Mode, Turn]], model: str, precision: str) -> list[Measured]:
    """Ticks of each mode, then the switches themselves; those of all turns together.

    No median of the turns: what is late in a few of them is what is looked for.
    """
    methods = {
        "steady": "no switches",
        "loaded": "while models that are loaded take over from each other",
        "anew": "while models that are read from the disk take over",
    }
    ticks = [
        Measured(
            subject=TableRow(
                name=f"tick-{mode}",
                model=model,
                precision=precision,
                method=f"a frame every 0.2 ms, from its intended time to publication, {methods[mode]}",
            ),
            durations_ns=np.concatenate([turns[mode].latency_ns for turns in rounds]),
        )
        for mode in rounds[0]
    ]
    switches = [
        Measured(
            subject=TableRow(
                name=f"switch-{mode}",
                model=model,
                precision=precision,
                method="from the request of a switch until it has happened",
            ),
            durations_ns=np.concatenate([turns[mode].switch_ns for turns in rounds]),
        )
        for mode, first in rounds[0].items()
        if first.counts.switches
    ]
    return [*ticks, *switches]


def _verdict(counts: SwitchCounts, steady: SwitchCounts) -> str:
    wrong = counts.missed + counts.doubled + counts.late
    own = counts.late_with_core
    cause = "" if own is None else f" ({own} not for want of a core)"
    return (
        f"{counts.mode}: {counts.switches:,} switches, {counts.ticks:,} ticks: {counts.missed} missed, "
        f"{counts.doubled} doubled, {counts.late} late{cause}, in {counts.turns_with_late} of {counts.turns} "
        f"turns; target 0{' (missed)' if wrong else ''}; without a switch {steady.late} late of "
        f"{steady.ticks:,}, in {steady.turns_with_late} turns"
    )


def _table(counts: Sequence[SwitchCounts]) -> Table:
    table = Table(title="ticks", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for one in counts:
        table.add_column(one.mode, justify="right")
    for name in SwitchCounts.__struct_fields__[1:]:
        values = (getattr(one, name) for one in counts)
        table.add_row(name.replace("_", " "), *("?" if value is None else f"{value:,}" for value in values))
    return table
