"""`mambalob record`: an exchange's order-book frames into a file that replays."""

from pathlib import Path

import click
import msgspec

from inference.pipeline import DEFAULT_STALL_MS
from lob.instrument import Instrument
from serve.bybit_stream import CATEGORIES, DEPTHS, BookTopic, resolve_stream
from serve.instruments import fetch_instrument
from serve.logs import configure_logging
from serve.process import run_until_signalled
from serve.recorder import Recorder, RecorderConfig, RecordingSummary


@click.command()
@click.option("--symbol", required=True, help="The instrument, such as BTCUSDT.")
@click.option(
    "--depth",
    type=click.Choice([str(depth) for depth in DEPTHS]),
    default="50",
    show_default=True,
    help="Levels a side of the order-book topic.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The recording, FILE.jsonl.zst; it must not exist yet.",
)
@click.option("--seconds", type=float, help="End after so long; by default on Ctrl-C.")
@click.option(
    "--category",
    type=click.Choice(CATEGORIES),
    help="Bybit's kind of market; by default the one the address names, else linear.",
)
@click.option("--url", help="The exchange's stream; by default Bybit's public one of the category.")
@click.option("--tick-size", help="The instrument's tick size; by default the exchange is asked for it.")
@click.option(
    "--stall-ms",
    type=click.IntRange(min=1),
    default=DEFAULT_STALL_MS,
    show_default=True,
    help="So long without a book message asks for a new snapshot.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
def command(
    symbol: str,
    depth: str,
    out: Path,
    seconds: float | None,
    category: str | None,
    url: str | None,
    tick_size: str | None,
    stall_ms: int,
    as_json: bool,
) -> None:
    """Record the raw frames of one order-book topic, with the time each arrived.

    The sequence is checked while recording; a gap is counted and answered by a new snapshot. Ctrl-C closes
    the file whole, and until then it is a readable FILE.part.
    """
    configure_logging("info")
    topic = BookTopic(symbol=symbol, depth=int(depth))
    url, category = resolve_stream(url, category)
    if tick_size is None:
        instrument = fetch_instrument(url, category, symbol)
    else:
        instrument = Instrument(symbol=symbol, tick_size=tick_size)
    config = RecorderConfig(
        topic=topic, url=url, instrument=instrument, path=out, stall_ms=stall_ms, seconds=seconds
    )
    recorder = Recorder(config)
    summary = run_until_signalled(recorder.run(), recorder.stop)
    assert summary is not None, "a recorder that is stopped answers its summary"
    click.echo(msgspec.json.encode(summary).decode() if as_json else readable(summary))


def readable(summary: RecordingSummary) -> str:
    """The summary for people, on one line."""
    return (
        f"{summary.path}: {summary.frames:,} frames ({summary.frame_bytes:,} bytes, "
        f"{summary.file_bytes:,} on disk) in {summary.seconds:.1f} s, "
        f"{summary.snapshots} snapshots, {summary.gaps} gaps, "
        f"{summary.resyncs} resyncs, {summary.connections} connections"
    )
