"""`mambalob models`: which trained artifacts there are, each verified."""

from pathlib import Path
from typing import Any

import click
import msgspec

from inference.artifact import Artifact, verify_artifact
from inference.engines.selection import choose_engine
from inference.held_out import held_out_summary
from inference.registry import known_models, load_model
from lob.errors import ArtifactError


@click.command("models")
@click.option(
    "--models-dir",
    type=click.Path(path_type=Path),
    help="A directory of models, beside those that ship (or the variable MAMBALOB_MODELS).",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(models_dir: Path | None, as_json: bool) -> None:
    """List the models that can be served, after verifying all of each.

    Exit code 1 if one does not verify.
    """
    entries = [_entry(name, directory, models_dir) for name, directory in known_models(models_dir).items()]
    if as_json:
        click.echo(msgspec.json.encode({"models": entries}))
    else:
        click.echo("\n\n".join(map(_paragraph, entries)) or "no models")
    if any("error" in entry for entry in entries):
        raise SystemExit(1)


def _entry(name: str, directory: Path, models_dir: Path | None) -> dict[str, Any]:
    """What is said of one model; only `error` beside name and directory where it does not verify."""
    try:
        artifact = load_model(name, models_dir)
        nodes = verify_artifact(artifact)
    except ArtifactError as error:
        return {"name": name, "directory": str(directory), "error": str(error)}
    return {**_facts(artifact), "nodes": nodes, "directory": str(directory)}


def _facts(artifact: Artifact) -> dict[str, Any]:
    manifest = artifact.manifest
    architecture = manifest.architecture
    return {
        "name": manifest.name,
        "version": manifest.version,
        "family": architecture.family,
        "block": architecture.block,
        "size": architecture.size,
        "parameters": architecture.parameters,
        "context": manifest.context,
        "engine": choose_engine("auto", artifact),
        "schema": manifest.schema.name,
        "schema_version": manifest.schema.version,
        "sampling": manifest.sampling,
        "window_length": manifest.window_length,
        "warmup_rows": manifest.warmup_rows,
        "horizons": manifest.horizons,
        "precision": {kind: graph.precision for kind, graph in manifest.graphs.items()},
        "trained_on": [file.name for file in manifest.training.files],
        "held_out": held_out_summary(manifest.metrics),
    }


def _paragraph(entry: dict[str, Any]) -> str:
    if "error" in entry:
        return f"{entry['name']}: does not verify\n  {entry['error']}"
    graphs = ", ".join(
        f"{kind} {count} nodes {entry['precision'][kind]}" for kind, count in entry["nodes"].items()
    )
    lines = [
        f"{entry['name']} {entry['version']}: {entry['family']} {entry['block']} {entry['size']}, "
        f"{entry['parameters']:,} parameters, context {entry['context']} ({entry['engine']})",
        f"  {entry['schema']} version {entry['schema_version']}, {entry['sampling']}, "
        f"horizons {', '.join(map(str, entry['horizons']))} rows, first answer after {entry['warmup_rows']}",
        f"  graphs: {graphs}",
    ]
    if entry["trained_on"]:
        lines.append(f"  trained on: {', '.join(entry['trained_on'])}")
    lines += [f"  held out: {_scores(scores)}" for scores in entry["held_out"]]
    return "\n".join([*lines, f"  {entry['directory']}"])


def _scores(scores: dict[str, Any]) -> str:
    named = {
        "log loss": scores.get("log_loss"),
        "direction AUC": scores.get("direction_auc"),
        "calibration error": scores.get("expected_calibration_error"),
        "macro F1": scores.get("macro_f1"),
    }
    figures = ", ".join(f"{name} {value:.3f}" for name, value in named.items() if value is not None)
    return f"{scores['stream']} at {scores['horizon']} rows: {figures}"
