"""`mambalob models`: which trained artifacts there are, each verified; and the versions in a directory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from inference.artifact import Artifact, verify_artifact
from inference.engines.selection import choose_engine, offered_precisions
from inference.held_out import greatest_costs, held_out_summary
from inference.model_store import ModelStore
from inference.registry import MODELS_VARIABLE, VERSION_MARK, known_models, load_model, own_models, split_name
from lob.errors import ArtifactError, InputError

Command = Callable[..., Any]


def _models_dir_option(command: Command) -> Command:
    return click.option(
        "--models-dir",
        type=click.Path(path_type=Path, file_okay=False),
        help=f"A directory of models, beside those that ship (or the variable {MODELS_VARIABLE}).",
    )(command)


def _json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)


@click.group("models", invoke_without_command=True)
@_models_dir_option
@_json_option
@click.pass_context
def command(context: click.Context, models_dir: Path | None, as_json: bool) -> None:
    """List the models that can be served, after verifying all of each; or change a directory of versions.

    A version that its bare name does not stand for is listed as NAME@VERSION. Exit code 1 if one does not
    verify.
    """
    if context.invoked_subcommand is not None:
        if models_dir is not None or as_json:
            raise click.UsageError(f"options go behind {context.invoked_subcommand}")
        return
    _report(list(known_models(models_dir)), models_dir, as_json=as_json)


@command.command("verify")
@click.argument("models", nargs=-1, required=True, metavar="NAME[@VERSION]|PATH...")
@_models_dir_option
@_json_option
def verify(models: tuple[str, ...], models_dir: Path | None, as_json: bool) -> None:
    """Verify models: manifest, checksums, and every graph opened. Exit code 1 if one does not verify."""
    _report(models, models_dir, as_json=as_json)


@command.command("install")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--activate", is_flag=True, help="Let the bare name stand for it; a first version does anyway.")
@_models_dir_option
@_json_option
def install(artifact: Path, activate: bool, models_dir: Path | None, as_json: bool) -> None:
    """Verify the artifact in the directory ARTIFACT and copy it to its name and version."""
    installed = _store(models_dir).install(artifact, activate=activate)
    manifest = installed.artifact.manifest
    _say(
        {
            "name": manifest.name,
            "version": manifest.version,
            "active": installed.active,
            "directory": str(installed.artifact.directory),
        },
        f"{manifest.name}{VERSION_MARK}{manifest.version} is in {installed.artifact.directory}"
        f"{', and active' if installed.active else ''}",
        as_json=as_json,
    )


@command.command("activate")
@click.argument("model", metavar="NAME@VERSION")
@_models_dir_option
@_json_option
def activate(model: str, models_dir: Path | None, as_json: bool) -> None:
    """Let the bare name stand for a version, for whatever loads it from now on.

    A service that runs is told over HTTP: see `mambalob admin`.
    """
    name, version = _name_and_version(model)
    active = _store(models_dir).activate(name, version)
    _say_active(name, active.version, active.previous, as_json=as_json)


@command.command("rollback")
@click.argument("name")
@_models_dir_option
@_json_option
def rollback(name: str, models_dir: Path | None, as_json: bool) -> None:
    """Let NAME stand for the version it stood for before; a second time takes that back."""
    active = _store(models_dir).rollback(name)
    _say_active(name, active.version, active.previous, as_json=as_json)


@command.command("remove")
@click.argument("model", metavar="NAME@VERSION")
@_models_dir_option
@_json_option
def remove(model: str, models_dir: Path | None, as_json: bool) -> None:
    """Remove a version that is not active."""
    name, version = _name_and_version(model)
    _store(models_dir).remove(name, version)
    _say({"removed": model}, f"{model} is removed", as_json=as_json)


def _store(models_dir: Path | None) -> ModelStore:
    directory = own_models(models_dir)
    if directory is None:
        raise InputError(f"--models-dir: nothing came; a directory is needed, here or in {MODELS_VARIABLE}")
    return ModelStore(directory)


def _name_and_version(model: str) -> tuple[str, str]:
    name, version = split_name(model)
    if version is None:
        raise InputError(f"model: {model!r} came; NAME{VERSION_MARK}VERSION is allowed")
    return name, version


def _say(report: dict[str, Any], text: str, *, as_json: bool) -> None:
    click.echo(msgspec.json.encode(report) if as_json else text)


def _say_active(name: str, version: str, previous: str | None, *, as_json: bool) -> None:
    before = f", before that for {previous}" if previous else ""
    _say(
        {"name": name, "version": version, "previous": previous},
        f"{name} stands for version {version}{before}",
        as_json=as_json,
    )


def _report(models: list[str] | tuple[str, ...], models_dir: Path | None, *, as_json: bool) -> None:
    """Say what each of `models` is; exit code 1 where one does not verify."""
    known = known_models(models_dir)
    entries = [_entry(model, known.get(model), models_dir) for model in models]
    if as_json:
        click.echo(msgspec.json.encode({"models": entries}))
    else:
        click.echo("\n\n".join(map(_paragraph, entries)) or "no models")
    if any("error" in entry for entry in entries):
        raise SystemExit(1)


def _entry(model: str, directory: Path | None, models_dir: Path | None) -> dict[str, Any]:
    """What is said of one model; only `error` beside name and directory where it does not verify."""
    try:
        artifact = load_model(model, models_dir)
        opened = verify_artifact(artifact)
    except ArtifactError as error:
        place = {} if directory is None else {"directory": str(directory)}
        return {"id": model, "name": model, **place, "error": str(error)}
    graphs = [
        {"graph": kind, "precision": precision, "nodes": nodes} for (kind, precision), nodes in opened.items()
    ]
    return {"id": model, **_facts(artifact), "graphs": graphs, "directory": str(artifact.directory)}


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
        "precisions": offered_precisions(artifact),
        "accuracy_costs": [
            {"engine": engine, "precision": precision, **greatest}
            for (engine, precision), greatest in greatest_costs(manifest.accuracy_costs).items()
        ],
        "trained_on": [file.name for file in manifest.training.files],
        "held_out": held_out_summary(manifest.metrics),
    }


def _paragraph(entry: dict[str, Any]) -> str:
    if "error" in entry:
        return f"{entry['name']}: does not verify\n  {entry['error']}"
    graphs = ", ".join("{graph} {nodes} nodes {precision}".format(**graph) for graph in entry["graphs"])
    precisions = "; ".join(f"{engine} {', '.join(each)}" for engine, each in entry["precisions"].items())
    exactly = f"{entry['name']}{VERSION_MARK}{entry['version']}"
    called = exactly if entry["id"] == exactly else f"{entry['name']} {entry['version']}"
    lines = [
        f"{called}: {entry['family']} {entry['block']} {entry['size']}, "
        f"{entry['parameters']:,} parameters, context {entry['context']} ({entry['engine']})",
        f"  {entry['schema']} version {entry['schema_version']}, {entry['sampling']}, "
        f"horizons {', '.join(map(str, entry['horizons']))} rows, first answer after {entry['warmup_rows']}",
        f"  graphs: {graphs}",
        f"  precisions: {precisions}",
    ]
    lines += [
        f"  {cost['engine']} {cost['precision']} costs at most: log loss {cost['log_loss_rise']:+.4f}, "
        f"calibration error {cost['calibration_error_rise']:+.4f}, "
        f"macro F1 {0 - cost['macro_f1_loss']:+.4f}, "
        f"{cost['changed_directions']:.2%} of directions changed"
        for cost in entry["accuracy_costs"]
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
