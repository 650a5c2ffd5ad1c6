"""`mambalob evaluate`: held-out scores of a run or an artifact beside the baselines."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
import torch
from rich.console import Console

from inference.registry import load_model as load_artifact_named
from lob.errors import InputError
from training.dataset import read_dataset
from training.evaluate import evaluate_streams
from training.evaluation import without_reliability
from training.held_out import (
    artifact_forecasts,
    artifact_record,
    recorded_streams,
    run_forecasts,
)
from training.plots import draw_evaluation
from training.pool import LabelledStream
from training.report import NOTES, markdown_tables, rich_tables
from training.run_directory import read_run, write_json
from training.trained_model import EVALUATION_FILE

FOLDER = click.Path(path_type=Path)
PLAIN_WIDTH = 200
"""Columns of the tables where they go to a file or a pipe."""


@click.command("evaluate")
@click.option("--run", type=FOLDER, metavar="DIR", help="A run's folder: all its finished seeds.")
@click.option("--model", metavar="NAME", help="Or an artifact, by name or path, as it is served.")
@click.option("--models-dir", type=FOLDER, help="A directory of models, beside those that ship.")
@click.option("--data", required=True, multiple=True, type=FOLDER, metavar="DIR", help="A data set; repeat.")
@click.option("--stream", "names", multiple=True, metavar="NAME", help="Only this stream's scores; repeat.")
@click.option(
    "--part",
    type=click.Choice(["test", "validation"]),
    default="test",
    show_default=True,
    help="The rows to score: the held-out ones (test), or those that stopped training.",
)
@click.option("--plots", type=FOLDER, metavar="DIR", help="Write reliability diagrams and confusions as PNG.")
@click.option("--save", is_flag=True, help="Write evaluation.json to the run, for its artifact's manifest.")
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown, for a card.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="PyTorch's.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def command(
    run: Path | None,
    model: str | None,
    models_dir: Path | None,
    data: tuple[Path, ...],
    names: tuple[str, ...],
    part: str,
    plots: Path | None,
    save: bool,
    markdown: bool,
    threads: int,
    as_json: bool,
) -> None:
    """Score a model on parts it was not trained on, beside what it has to beat.

    Give the data sets the model was trained on, so that the logistic regressions see what it saw. A data set
    it was not trained on is cut 60/20/20 like the others and its last fifth scored.
    """
    if (run is None) == (model is None):
        raise click.UsageError("one of --run and --model is needed")
    if save and run is None:
        raise click.UsageError("--save needs --run")
    torch.set_num_threads(threads)
    datasets = [read_dataset(directory) for directory in data]
    if run is not None:
        record, name = read_run(run), read_run(run).name
        streams = recorded_streams(record, datasets)
        chosen = chosen_streams(streams, names, part, record.warmup_rows)
        forecasts = run_forecasts(run, chosen, part)
    else:
        artifact = load_artifact_named(str(model), models_dir)
        record, name = artifact_record(artifact), artifact.name
        streams = recorded_streams(record, datasets)
        chosen = chosen_streams(streams, names, part, artifact.manifest.warmup_rows)
        forecasts = artifact_forecasts(artifact, chosen, part)
    evaluation = evaluate_streams(name, record, streams, chosen, forecasts, part=part)
    if save and run is not None:
        write_json(run / EVALUATION_FILE, without_reliability(evaluation))
    if plots is not None:
        for stream in evaluation.streams:
            for path in draw_evaluation(stream, plots):
                click.echo(f"wrote {path}", err=True)
    if as_json:
        click.echo(msgspec.json.encode(evaluation))
    elif markdown:
        click.echo("\n".join(markdown_tables(stream) for stream in evaluation.streams) + NOTES)
    else:
        console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
        for stream in evaluation.streams:
            for table in rich_tables(stream):
                console.print(table)
        console.print(NOTES, highlight=False)


def chosen_streams(
    streams: Sequence[LabelledStream], names: Sequence[str], part: str, warmup_rows: int
) -> list[LabelledStream]:
    """The streams to score: those named, else all whose part is long enough."""
    known = {stream.name: stream for stream in streams}
    for name in names:
        if name not in known:
            raise InputError(f"stream: {name!r} came, one of {', '.join(known)} is allowed")
    if names:
        return [known[name] for name in names]
    long_enough = [
        stream for stream in streams if len(stream.split.part(part)) > warmup_rows + max(stream.horizons)
    ]
    if not long_enough:
        raise InputError(f"data: no stream has a {part} part long enough to be scored")
    return long_enough
