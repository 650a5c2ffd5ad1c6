"""`mambalob quantise`: an artifact in shorter number formats, with the accuracy each costs."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import click

from inference.precision import Precision
from inference.registry import load_model
from lob.errors import InputError
from training.accuracy_cost import AccuracyLimits
from training.dataset import read_dataset
from training.held_out import artifact_record, recorded_streams
from training.reduction import Reduction, reduce_artifact

FOLDER = click.Path(file_okay=False, path_type=Path)
REDUCED: tuple[Precision, ...] = tuple(each for each in get_args(Precision) if each != "float32")

LIMIT_HELP = (
    "The most that a format may cost, instead of the default; repeat. Names and defaults: "
    + ", ".join(f"{field.name} {field.default}" for field in dataclasses.fields(AccuracyLimits))
    + "."
)


@click.command("quantise")
@click.argument("model", metavar="NAME")
@click.option("--models-dir", type=FOLDER, help="A directory of models, beside those that ship.")
@click.option(
    "--data",
    required=True,
    multiple=True,
    type=FOLDER,
    metavar="DIR",
    help="A data set that the model was trained on: its test part is measured; repeat.",
)
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(REDUCED),
    multiple=True,
    default=REDUCED,
    show_default=True,
    help="A number format; repeat.",
)
@click.option("--out", type=FOLDER, required=True, help="Folder in which the artifact's appears.")
@click.option("--limit", "limits", multiple=True, metavar="MEASURE=VALUE", help=LIMIT_HELP)
@click.option("--replace", is_flag=True, help="Replace an artifact of that name.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    model: str,
    models_dir: Path | None,
    data: tuple[Path, ...],
    precisions: tuple[Precision, ...],
    out: Path,
    limits: tuple[str, ...],
    replace: bool,
    as_json: bool,
) -> None:
    """Write a model again with graphs in shorter number formats, and what every format costs in accuracy.

    Graphs for onnxruntime are made from the model's float32 graphs, in float16 and, where a matrix is large
    enough for it to pay, in int8; the engine fused needs none for its formats. Each engine answers the test
    parts in each format and in float32; log loss, calibration error, macro F1, the share of changed
    directions and the largest difference of a probability are noted in manifest.json and CARD.md, in place of
    the shorter formats and costs that the model had. Where one is beyond its limit, on any stream and
    horizon, nothing is written.
    """
    artifact = load_model(model, models_dir)
    streams = recorded_streams(artifact_record(artifact), [read_dataset(directory) for directory in data])
    reduction = reduce_artifact(
        artifact, out / artifact.name, streams, precisions, limits=accuracy_limits(limits), replace=replace
    )
    if as_json:
        click.echo(json.dumps(report(reduction)))
    else:
        click.echo("\n".join([str(reduction.artifact.directory), *lines(reduction)]))


def accuracy_limits(given: Sequence[str]) -> AccuracyLimits:
    """The limits that `MEASURE=VALUE` texts give, the defaults elsewhere; InputError where one is none."""
    known = [field.name for field in dataclasses.fields(AccuracyLimits)]
    limits: dict[str, float] = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            limits[name] = float(value)
        except ValueError:
            raise InputError(f"limit: {text!r} came; MEASURE=VALUE is allowed") from None
        if name not in known:
            raise InputError(f"limit: {name!r} came; allowed: {', '.join(known)}")
    return AccuracyLimits(**limits)


def report(reduction: Reduction) -> dict[str, Any]:
    """What `--json` prints."""
    manifest = reduction.artifact.manifest
    return {
        "artifact": str(reduction.artifact.directory),
        "graphs": [
            {"graph": kind, "precision": graph.precision, "file": graph.file, "sha256": graph.sha256}
            for kind, graph in manifest.all_graphs()
        ],
        "left_out": reduction.left_out,
        "accuracy_costs": [
            {field: getattr(cost, field) for field in cost.__struct_fields__}
            for cost in manifest.accuracy_costs
        ],
    }


def lines(reduction: Reduction) -> list[str]:
    """What is printed for people: a line for each graph, each left out, and each cost."""
    directory = reduction.artifact.directory
    said = [
        f"  {graph.file}: {graph.precision}, {(directory / graph.file).stat().st_size:,} bytes"
        for _, graph in reduction.artifact.manifest.all_graphs()
    ]
    said += [f"  no {name}: {reason}" for name, reason in reduction.left_out.items()]
    said += [
        f"  {cost.engine} {cost.precision}, {cost.stream} at {cost.horizon} rows: "
        f"log loss {cost.log_loss:.4f} ({cost.log_loss_rise:+.5f}), "
        f"ECE {cost.calibration_error:.4f} ({cost.calibration_error_rise:+.5f}), "
        f"macro F1 {cost.macro_f1:.4f} ({0 - cost.macro_f1_loss:+.5f}), "
        f"{cost.changed_directions:.2%} of directions changed, "
        f"a probability by {cost.probability_difference:.4f}"
        for cost in reduction.artifact.manifest.accuracy_costs
    ]
    return said
