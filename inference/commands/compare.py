"""`mambalob compare`: whether all engines answer alike on recorded frames, in every number format."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from inference.agreement import Agreement, AgreementReport, compare_engines
from inference.capture_instrument import capture_instrument
from inference.engines.selection import ENGINE_NAMES
from inference.precision import PRECISIONS
from inference.registry import load_model
from lob.captures import open_captures

EXISTING = click.Path(path_type=Path)
FRAMES_A_NOTE = 10_000


@click.command("compare")
@click.argument("files", nargs=-1, required=True, type=EXISTING, metavar="FILE...")
@click.option("--model", required=True, metavar="NAME", help="A model's name, or the path of its directory.")
@click.option("--models-dir", type=EXISTING, help="A directory of models, beside those that ship.")
@click.option(
    "--engine",
    "engines",
    type=click.Choice([name for name in ENGINE_NAMES if name != "auto"]),
    multiple=True,
    help="Only this engine; may be given again. By default all that the model has.",
)
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(PRECISIONS),
    multiple=True,
    help="Only this number format; may be given again. By default all that each engine offers.",
)
@click.option(
    "--window-every",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Compare ort-window at one in so many rows: its reference takes L steps for each.",
)
@click.option("--symbol", help="Needed where the capture holds several symbols, or names none.")
@click.option("--tick-size", help="As text, 0.10; else as the capture states it, or inferred from prices.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    files: tuple[Path, ...],
    model: str,
    models_dir: Path | None,
    engines: tuple[str, ...],
    precisions: tuple[str, ...],
    window_every: int,
    symbol: str | None,
    tick_size: str | None,
    as_json: bool,
) -> None:
    """Run captures through every engine and number format of a model, and hold every row's answers together.

    The reference is ort-step in float32; for ort-window it steps from zero over the same rows. A difference
    is that of a logit, relative to it where it is above 1; float32 has to be within 1e-5, the other formats
    within their stated tolerance. The fused engine runs in stages and as one call, which have to give the
    same bits. Several FILEs continue one another. Exit code 1 where an engine does not agree or refuses to
    start, and where no row was answered.
    """
    artifact = load_model(model, models_dir)
    capture = open_captures(files)
    found = capture_instrument(capture, symbol=symbol, tick_size=tick_size)
    report = compare_engines(
        artifact,
        found.instrument,
        capture,
        venue=capture.venue,
        engines=engines,
        precisions=precisions,
        window_every=window_every,
        on_frames=_note if sys.stderr.isatty() else None,
    )
    if as_json:
        facts = {
            "model": artifact.name,
            "version": artifact.manifest.version,
            "files": [str(path) for path in capture.paths],
            "symbol": found.instrument.symbol,
            "window_every": window_every,
        }
        click.echo(msgspec.json.encode(facts | as_values(report)))
    else:
        click.echo(f"{artifact.name} on {found.instrument.symbol}: {report.frames:,} frames")
        click.echo("\n".join(lines(report)))
    if not report.agrees:
        raise SystemExit(1)


def as_values(report: AgreementReport) -> dict[str, Any]:
    """The report as plain values."""
    return {
        "agrees": report.agrees,
        "frames": report.frames,
        "rows": report.rows,
        "results": [
            dataclasses.asdict(agreement) | {"agrees": agreement.agrees} for agreement in report.agreements
        ],
        "refused": report.refused,
        "unanswered": report.unanswered,
    }


def lines(report: AgreementReport) -> list[str]:
    """A table for people, and what could not be compared."""
    said = [
        f"{'engine':<24}{'rows':>9}{'unequal':>9}{'difference':>12}{'allowed':>10}{'probability':>13}"
        f"{'directions changed':>20}"
    ]
    said += [_line(agreement) for agreement in report.agreements]
    said += [f"{name} could not be compared: {reason}" for name, reason in report.refused.items()]
    if not report.rows:
        return [*said, f"no row was answered, nothing is compared; ended {report.unanswered}"]
    return [*said, "all agree" if report.agrees else "they do not agree"]


def _line(agreement: Agreement) -> str:
    way = ", one call" if agreement.one_call else ""
    return (
        f"{f'{agreement.engine} {agreement.precision}{way}':<24}{agreement.rows:>9,}"
        f"{agreement.unequal_rows:>9,}{agreement.largest_difference:>12.1e}{agreement.tolerance:>10g}"
        f"{agreement.largest_probability_difference:>13.1e}{agreement.changed_share:>20.3%}"
        f"{'' if agreement.agrees else '  !!'}"
    )


def _note(frames: int) -> None:
    if frames % FRAMES_A_NOTE == 0:
        click.echo(f"{frames:,} frames", err=True)
