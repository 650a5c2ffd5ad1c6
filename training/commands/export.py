"""`mambalob export`: a trained model to an artifact that serves."""

import dataclasses
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

import click

from inference.manifest import GraphKind
from inference.precision import Precision
from lob.errors import InputError
from training.commands import quantise
from training.commands.quantise import LIMIT_HELP, REDUCED, accuracy_limits
from training.dataset import Dataset, read_dataset
from training.export import Export, export_artifact
from training.held_out import recorded_streams
from training.node_costs import NodeCost, node_costs
from training.parity import Floats
from training.reduction import reduce_artifact
from training.run_directory import read_run
from training.trained_model import held_out_rows, load_trained

Costs = dict[GraphKind, tuple[NodeCost, ...]]

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
EXISTING = click.Path(exists=True, path_type=Path)


@click.command()
@click.option(
    "--run", "run_directory", type=FOLDER, required=True, help="Folder that `mambalob train` wrote."
)
@click.option("--data", type=EXISTING, required=True, help="Data set or capture: rows for the parity gate.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder in which the artifact's appears.",
)
@click.option("--name", help="The artifact's name; by default the run's.")
@click.option("--version", default="1", show_default=True, help="The artifact's version.")
@click.option("--seed", type=int, help="Which seed; by default the best on the validation part.")
@click.option(
    "--card",
    type=click.File(encoding="utf-8"),
    help="Text of its CARD.md; by default what the manifest says.",
)
@click.option("--symbol", help="Symbol in the capture, where it holds several or names none.")
@click.option("--tick-size", help="Tick size, where the capture does not state it.")
@click.option("--replace", is_flag=True, help="Replace an artifact of that name.")
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(REDUCED),
    multiple=True,
    help="Also in this number format, its cost measured on the test part of --data, a data set; repeat.",
)
@click.option("--limit", "limits", multiple=True, metavar="MEASURE=VALUE", help=LIMIT_HELP)
@click.option(
    "--explain",
    is_flag=True,
    help="Measure what each operator costs in each graph, by subtraction: below 0 is too cheap to be told.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    run_directory: Path,
    data: Path,
    out: Path,
    name: str | None,
    version: str,
    seed: int | None,
    card: TextIO | None,
    symbol: str | None,
    tick_size: str | None,
    replace: bool,
    precisions: tuple[Precision, ...],
    limits: tuple[str, ...],
    explain: bool,
    as_json: bool,
) -> None:
    """Write step.onnx, window.onnx, manifest.json and CARD.md of a trained model.

    Both graphs are first held against PyTorch on real rows; where a logit differs by more than 1e-5 nothing
    is written. Nor where a --precision costs more accuracy than its limits allow (see `mambalob quantise`).
    """
    model, manifest = load_trained(run_directory, seed=seed, name=name, version=version)
    rows = held_out_rows(data, read_run(run_directory), symbol=symbol, tick_size=tick_size)
    if not as_json:
        click.echo("writing both graphs and holding them against PyTorch: up to a minute", err=True)
    target = out / manifest.name
    if not precisions:
        export = export_artifact(model, manifest, target, rows, card=card_text(card), replace=replace)
        reduction = None
    else:
        if target.exists() and not replace:
            raise InputError(f"{target}: exists already; replacing it has to be asked for with --replace")
        streams = recorded_streams(read_run(run_directory), [dataset_of(data)])
        with TemporaryDirectory(prefix="mambalob-export-") as folder:
            export = export_artifact(
                model, manifest, Path(folder) / manifest.name, rows, card=card_text(card)
            )
            reduction = reduce_artifact(
                export.artifact, target, streams, precisions, limits=accuracy_limits(limits), replace=replace
            )
        export = dataclasses.replace(export, artifact=reduction.artifact)
    costs = measured_costs(export, rows) if explain else {}
    if as_json:
        reduced = {} if reduction is None else {"reduction": quantise.report(reduction)}
        click.echo(json.dumps(report(export, costs) | reduced))
    else:
        click.echo("\n".join(lines(export, costs)))
        if reduction is not None:
            click.echo("\n".join(quantise.lines(reduction)))


def dataset_of(data: Path) -> Dataset:
    """The data set in `data`; InputError where it is a capture, whose parts nothing tells."""
    if not data.is_dir():
        raise InputError(
            f"--precision: {data} came as --data; a data set that the model was trained on is needed"
        )
    return read_dataset(data)


def card_text(card: TextIO | None) -> str | None:
    """What stands in the file of a card; InputError where it is not text."""
    try:
        return card.read() if card else None
    except UnicodeDecodeError as error:
        raise InputError(f"--card: {error}; a text file in UTF-8 is allowed") from error


def measured_costs(export: Export, rows: Floats) -> Costs:
    """What each operator costs in each float32 graph that was written, on the last of `rows`."""
    artifact = export.artifact
    window = rows[-artifact.manifest.window_length :]  # (L, F)
    return {
        kind: node_costs((artifact.directory / graph.file).read_bytes(), kind, window)
        for kind, graph in artifact.manifest.graphs.items()
    }


def report(export: Export, costs: Costs) -> dict[str, Any]:
    """What `--json` prints; `costs` stand beside the graphs they are of."""
    artifact, parity = export.artifact, export.parity
    return {
        "artifact": str(artifact.directory),
        "name": artifact.manifest.name,
        "version": artifact.manifest.version,
        "parameters": artifact.manifest.architecture.parameters,
        "parity": {
            "differences": parity.differences,
            "tolerance": parity.tolerance,
            "stretches": parity.starts,
            "steps": parity.steps,
            "window_length": parity.window_length,
        },
        "graphs": {
            kind: {
                "file": graph.file,
                "sha256": graph.sha256,
                "bytes": (artifact.directory / graph.file).stat().st_size,
                "nodes": sum(export.nodes[kind].values()),
                "operators": export.nodes[kind],
            }
            | ({"costs": [dataclasses.asdict(cost) for cost in costs[kind]]} if kind in costs else {})
            for kind, graph in artifact.manifest.graphs.items()
        },
    }


def lines(export: Export, costs: Costs) -> list[str]:
    """What is printed for people."""
    content = report(export, costs)
    parity = content["parity"]
    said = [
        f"{content['name']} {content['version']}, {content['parameters']:,} parameters: {content['artifact']}"
    ]
    said += [
        f"  {graph['file']}: {graph['nodes']} nodes, {graph['bytes']:,} bytes, sha256 {graph['sha256'][:16]}"
        for graph in content["graphs"].values()
    ]
    said += [f"  {name}: {value:.1e} at most" for name, value in parity["differences"].items()]
    said[-1] += f" ({parity['stretches']} stretches of real rows; {parity['tolerance']:g} is allowed)"
    for kind, operators in costs.items():
        total = sum(cost.us for cost in operators)
        said.append(f"a call of {content['graphs'][kind]['file']} takes {total:,.1f} us:")
        said += [f"  {cost.nodes:4d}  {cost.us:9.2f} us  {cost.operator}" for cost in operators]
    return said
