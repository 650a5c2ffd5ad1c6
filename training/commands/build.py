"""`mambalob build`: captures to a data set."""

import os
from pathlib import Path

import click
import msgspec

from training.builder import BuildConfig, build_dataset_folder
from training.dataset import check_target

PATH = click.Path(path_type=Path)


@click.command("build")
@click.argument("captures", nargs=-1, required=True, type=PATH, metavar="CAPTURE...")
@click.option("--out", required=True, type=PATH, metavar="DIR", help="The data set's folder; appears whole.")
@click.option("--name", help="The stream's name, unique among those trained on together; else DIR's own.")
@click.option("--venue", type=click.Choice(["bybit", "binance"]), help="Refuse captures of another venue.")
@click.option("--symbol", help="Needed where the captures hold several symbols, or name none.")
@click.option("--tick-size", help="As text, 0.10; else as the capture states it, or inferred from prices.")
@click.option(
    "--sampling",
    type=click.Choice(["top_changed", "every_message"]),
    default="top_changed",
    show_default=True,
    help="A row when the first ten levels changed, or after every book message.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Captures read at once, a process each; by default as many as there are processors.",
)
@click.option("--replace", is_flag=True, help="Replace a data set that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as one JSON object.")
def command(
    captures: tuple[Path, ...],
    out: Path,
    name: str | None,
    venue: str | None,
    symbol: str | None,
    tick_size: str | None,
    sampling: str,
    workers: int | None,
    replace: bool,
    as_json: bool,
) -> None:
    """Turn captures of one stream into feature rows, through the same code that serves.

    Several CAPTUREs continue one another, in the order given; a folder stands for the captures below it, by
    name. Build each stream by itself and train on several data sets together.
    """
    check_target(out, replace=replace)
    config = BuildConfig(
        name=name or out.resolve().name, venue=venue, symbol=symbol, tick_size=tick_size, sampling=sampling
    )

    def tell(name: str, rows: int) -> None:
        click.echo(f"{name}: {rows:,} rows", err=True)

    manifest = build_dataset_folder(
        captures, out, config, workers=workers or _processors(), replace=replace, on_file=tell
    )
    if as_json:
        click.echo(msgspec.json.encode(manifest))
        return
    segments = "1 segment" if manifest.segments == 1 else f"{manifest.segments} segments"
    click.echo(
        f"{out}: {manifest.rows:,} rows of {manifest.symbol} (tick {manifest.tick_size}) in {segments}, "
        f"{manifest.sampling}"
    )


def _processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
