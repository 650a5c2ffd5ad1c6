"""`mambalob replay`: a capture through the serving code, as JSON lines."""

from array import array
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np

from inference.artifact import Artifact
from inference.capture_instrument import CaptureInstrument, capture_instrument
from inference.output_file import open_output
from inference.pipeline import Pipeline
from inference.precision import PRECISIONS
from inference.registry import load_model
from inference.replay import book_line, feature_line, replay_predictions, replay_rows, replay_trades
from lob.captures import Capture, open_captures
from lob.captures.layout import path_text
from lob.errors import InputError
from lob.rows import RowPath
from lob.schema import LOB44
from lob.trade_tape import TradeTape
from lob.venues import make_decoder

EXISTING = click.Path(path_type=Path)


@click.command("replay")
@click.argument("files", nargs=-1, required=True, type=EXISTING, metavar="FILE...")
@click.option(
    "--emit",
    type=click.Choice(["book", "features", "trades", "predictions"]),
    required=True,
    help="The ten best levels a side, the model's input row, the trades joined to it, or what a subscriber "
    "sees.",
)
@click.option("--model", metavar="NAME", help="A model's name, or the path of its directory.")
@click.option("--models-dir", type=EXISTING, help="A directory of models, beside those that ship.")
@click.option("--engine", default="auto", show_default=True, help="auto, fused, ort-step or ort-window.")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    show_default=True,
    help="The number format that the engine answers in.",
)
@click.option(
    "--sampling",
    type=click.Choice(["every_message", "top_changed"]),
    help="Which messages give a line; with a model its own, else every_message.",
)
@click.option("--venue", type=click.Choice(["bybit", "binance"]), help="Refuse captures of another venue.")
@click.option("--symbol", help="Needed where the capture holds several symbols, or names none.")
@click.option("--tick-size", help="As text, 0.10; else as the capture states it, or inferred from prices.")
@click.option("--out", default="-", metavar="PATH|-", show_default=True, help="A file appears once whole.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
def command(
    files: tuple[Path, ...],
    emit: str,
    model: str | None,
    models_dir: Path | None,
    engine: str,
    precision: str,
    sampling: str | None,
    venue: str | None,
    symbol: str | None,
    tick_size: str | None,
    out: str,
    as_json: bool,
) -> None:
    """Replay captures through the serving code, a JSON line per sampled message.

    Several FILEs continue one another. A summary goes to standard error.
    """
    if any(path.exists() and Path(out).exists() and path.samefile(out) for path in files):
        raise InputError(f"out: {out!r} came, which is one of the captures; another file is allowed")
    artifact = load_model(model, models_dir) if model is not None else None
    sampling = _sampling(sampling, artifact)
    capture = open_captures(files)
    if venue not in {None, capture.venue}:
        raise InputError(f"venue: {venue!r} came, the capture is of {capture.venue!r}")
    found = capture_instrument(capture, symbol=symbol, tick_size=tick_size)
    latencies_ns = array("q")
    pipeline: Pipeline | None = None
    tape: TradeTape | None = None
    if emit != "predictions":
        rows = RowPath(make_decoder(capture.venue), found.instrument, LOB44, sampling)
        if emit == "trades":
            tape = TradeTape(found.instrument)
            lines = replay_trades(capture, rows, tape)
        else:
            lines = replay_rows(capture, rows, book_line if emit == "book" else feature_line)
    elif artifact is not None:
        pipeline = Pipeline.create(
            artifact, found.instrument, engine=engine, precision=precision, venue=capture.venue
        )
        rows = pipeline.rows
        lines = replay_predictions(capture, pipeline, latencies_ns.append)
    else:
        raise InputError("model: none given; predictions need one, `mambalob models` lists them")
    if not as_json:
        instrument = found.instrument
        click.echo(f"{instrument.symbol}: tick size {instrument.tick_size}, {found.tick_origin}", err=True)
    try:
        with open_output(out) as stream:
            for line in lines:
                stream.write(line + b"\n")
    finally:
        summary = _summary(capture, found, rows, pipeline, latencies_ns)
        if tape is not None:
            summary["trades"] = {
                name: getattr(tape, name) for name in ("trades", "late", "dropped", "malformed")
            } | {"waiting": len(tape)}
        click.echo(msgspec.json.encode(summary) if as_json else _sentence(summary), err=True)


def _sampling(asked: str | None, artifact: Artifact | None) -> str:
    """What was asked for, if a model does not ask for another."""
    if artifact is None:
        return asked or "every_message"
    if asked not in {None, artifact.manifest.sampling}:
        raise InputError(
            f"sampling: {asked!r} came, model {artifact.name} allows {artifact.manifest.sampling!r}"
        )
    return artifact.manifest.sampling


def _summary(
    capture: Capture,
    found: CaptureInstrument,
    rows: RowPath,
    pipeline: Pipeline | None,
    latencies_ns: "array[int]",
) -> dict[str, Any]:
    """What was replayed and what came of it, as plain values."""
    counters = rows.counters if pipeline is None else pipeline.counters
    summary: dict[str, Any] = {
        "files": [path_text(path) for path in capture.paths],
        "venue": capture.venue,
        "symbol": rows.symbol,
        "tick_size": found.instrument.tick_size,
        "tick_origin": found.tick_origin,
        "sampling": rows.sampling,
        "frames": sum(rows.counters.values()),
        "lines": counters["row"] + counters["snapshot"] if pipeline is None else counters["predictions"],
        "counters": counters,
        "unfinished_recording": capture.interrupted,
    }
    if pipeline is not None:
        summary["engine"] = dict(pipeline.engine.describe())
        summary["state"] = {"state": pipeline.state.value, "reason": pipeline.reason}
    if latencies_ns:
        p50, p99 = np.percentile(np.array(latencies_ns), [50, 99]) / 1000
        summary["on_frame_us"] = {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}
    return summary


def _sentence(summary: dict[str, Any]) -> str:
    """The summary for people, in one line."""
    counts = ", ".join(f"{count:,} {name}" for name, count in summary["counters"].items() if count)
    parts = [
        f"{summary['frames']:,} frames of {summary['symbol']} ({summary['venue']})",
        f"{summary['lines']:,} lines",
    ]
    parts.append(counts or "nothing counted")
    if "trades" in summary:
        parts.append(", ".join(f"{count:,} {name}" for name, count in summary["trades"].items()))
    if "on_frame_us" in summary:
        parts.append("on_frame p50 {p50:,} us, p99 {p99:,} us".format(**summary["on_frame_us"]))
    if "state" in summary and summary["state"]["reason"]:
        parts.append("ended {state}: {reason}".format(**summary["state"]))
    if summary["unfinished_recording"]:
        parts.append("the recording was not finished by its writer")
    return "; ".join(parts)
