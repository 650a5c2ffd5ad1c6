"""The card of an artifact that nobody has written one for: what its manifest says, in sentences."""

from collections.abc import Sequence
from datetime import UTC, datetime

from inference.held_out import greatest_costs
from inference.manifest import AccuracyCost, Manifest
from training.parity import Parity


def model_card(manifest: Manifest, parity: Parity) -> str:
    """Markdown: what the model is, what it was trained on, and how far its graphs are from it."""
    architecture, training = manifest.architecture, manifest.training
    horizons = ", ".join(map(str, manifest.horizons))
    lines = [
        f"# {manifest.name} {manifest.version}",
        "",
        f"A {architecture.family} of the {architecture.block} block, size {architecture.size}: "
        f"{architecture.layers} layers, width {architecture.width}, state {architecture.state_size}, "
        f"{architecture.parameters:,} parameters.",
        f"It reads rows of {manifest.schema.name} (version {manifest.schema.version}), sampled "
        f"{manifest.sampling}, and says of the mid price {horizons} rows ahead whether it is "
        f"{' or '.join(manifest.classes)}.",
        "",
        "## Trained on",
        "",
        f"{training.rows:,} rows for {training.seconds:,.0f} s, seed {training.seed}.",
        "",
        *_files(manifest),
        "## Held-out part",
        "",
        "The figures stand under `metrics` in `manifest.json`."
        if manifest.metrics
        else "No evaluation on a held-out part came with this model.",
        "",
        "## Graphs",
        "",
        f"Held against PyTorch on {parity.starts} stretches of real rows before they were written: "
        + ", ".join(f"{name} {value:.1e}" for name, value in parity.differences.items())
        + f" at most in any logit ({parity.tolerance:g} allowed).",
        "",
    ]
    return "\n".join(lines)


def _files(manifest: Manifest) -> list[str]:
    if not manifest.training.files:
        return []
    lines = ["| file | rows | from (UTC) | to (UTC) |", "|---|---|---|---|"]
    for file in manifest.training.files:
        first, last = (
            datetime.fromtimestamp(ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
            for ns in (file.first_ns, file.last_ns)
        )
        lines.append(f"| {file.name} | {file.rows:,} | {first} | {last} |")
    return [*lines, ""]


COSTS_TITLE = "## What the shorter number formats cost"


def card_with_costs(card: str, costs: Sequence[AccuracyCost]) -> str:
    """`card` with a section on `costs` at its end, in place of one that was there."""
    before, _, after = card.partition(COSTS_TITLE)
    _, heading, rest = after.partition("\n## ")
    kept = f"{before.rstrip()}\n\n" + (f"## {rest.rstrip()}\n\n" if heading else "")
    return kept.lstrip() + "\n".join(_costs_section(costs)) + "\n"


def _costs_section(costs: Sequence[AccuracyCost]) -> list[str]:
    lines = [
        COSTS_TITLE,
        "",
        "Against the same engine in float32 on the held-out parts, as served: the most on any stream and "
        "horizon. Each by itself stands under `accuracy_costs` in `manifest.json`.",
        "",
        "| engine | format | log loss | ECE | macro F1 | directions changed | probability |",
        "|---|---|---|---|---|---|---|",
    ]
    for (engine, precision), greatest in greatest_costs(costs).items():
        lines.append(
            f"| {engine} | {precision} | {greatest['log_loss_rise']:+.5f} "
            f"| {greatest['calibration_error_rise']:+.5f} | {0 - greatest['macro_f1_loss']:+.5f} "
            f"| {greatest['changed_directions']:.2%} | {greatest['probability_difference']:.4f} |"
        )
    return lines
