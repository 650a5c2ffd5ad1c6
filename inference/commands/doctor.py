"""`mambalob doctor`: what this machine offers, and what is wrong with it."""

from pathlib import Path
from typing import Any

import click
import msgspec

from inference.doctor import Check, examine
from inference.precision import PRECISIONS


@click.command("doctor")
@click.option(
    "--compile",
    "compiling",
    is_flag=True,
    help="Compile every kernel and run every model once, so that the next start is quick.",
)
@click.option(
    "--models-dir", type=click.Path(path_type=Path), help="A directory of models, beside those that ship."
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    show_default=True,
    help="Say which engine `auto` would take in this number format, and compile for it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(compiling: bool, models_dir: Path | None, precision: str, as_json: bool) -> None:
    """Examine packages, processor, clock, onnxruntime, kernel cache and models.

    Exit code 1 if there is a problem.
    """
    if compiling and not as_json:
        click.echo("compiling every kernel: a minute or two where none is cached", err=True)
    checks = examine(models_dir, compiling=compiling, precision=precision)
    healthy = not any(check.problem for check in checks)
    if as_json:
        click.echo(msgspec.json.encode({"ok": healthy, "checks": checks}))
    else:
        for check in checks:
            click.echo(_paragraph(check))
        click.echo("all is well" if healthy else "there are problems, marked !!")
    if not healthy:
        raise SystemExit(1)


def _paragraph(check: Check) -> str:
    facts = ", ".join(f"{key} {_printed(value)}" for key, value in check.facts.items())
    lines = [f"{'!!' if check.problem else 'ok'} {check.name}: {check.problem or facts}"]
    if check.problem and facts:
        lines.append(f"   {facts}")
    if check.hint:
        lines.append(f"   try: {check.hint}")
    return "\n".join(lines)


def _printed(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {_printed(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "none"
    return str(value)
