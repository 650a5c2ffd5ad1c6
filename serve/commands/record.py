"""`mambalob record`: an exchange's order-book frames into captures that replay; and are they whole."""

import math
from pathlib import Path
from typing import get_args

import click
import msgspec

from inference.folder_lock import folder_lock
from inference.pipeline import DEFAULT_STALL_MS
from lob.bybit import DEPTHS, FULL
from lob.captures.layout import RECORDING_SUFFIX
from lob.captures.recording import PART_SUFFIX
from lob.captures.rotation import RotationPolicy
from lob.captures.salvage import close_left
from lob.errors import InputError
from lob.instrument import Instrument
from lob.venues import Venue
from serve.bybit_stream import CATEGORIES, read_depth
from serve.instruments import find_instrument
from serve.logs import configure_logging
from serve.process import run_until_signalled
from serve.recorder import Recorder, RecorderConfig, RecordingSummary
from serve.venue_connection import check_transport
from serve.venue_topics import book_topic, resolve_address
from serve.verification import FileReport, verify_captures

_DEFAULTS = RotationPolicy()


@click.command()
@click.argument("captures", nargs=-1, type=click.Path(path_type=Path), metavar="[CAPTURE...]")
@click.option("--symbol", help="The instrument, such as BTCUSDT.")
@click.option(
    "--venue", type=click.Choice(get_args(Venue)), default="bybit", show_default=True, help="The exchange."
)
@click.option(
    "--depth",
    type=click.Choice([*map(str, DEPTHS), FULL]),
    default="50",
    show_default=True,
    help="Levels a side of Bybit's order-book topic, or the whole book; Binance sends the whole book.",
)
@click.option("--trades", is_flag=True, help="Record the public trades too, into the same files.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="One recording, FILE.jsonl.zst; it must not exist yet.",
)
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    help="Captures in turn, in DIR/VENUE/CATEGORY/SYMBOL/TOPIC; a new start goes on there.",
)
@click.option(
    "--rotate-s",
    type=click.IntRange(min=0),
    default=_DEFAULTS.every_s,
    show_default=True,
    help="A new file with every so many seconds of UTC; 0: never for that.",
)
@click.option(
    "--rotate-mib",
    type=click.FloatRange(min=0),
    default=(_DEFAULTS.file_bytes or 0) >> 20,
    show_default=True,
    help="A new file after so many MiB on disk; 0: never for that.",
)
@click.option("--seconds", type=float, help="End after so long; by default on Ctrl-C.")
@click.option(
    "--category",
    type=click.Choice(CATEGORIES),
    help="The kind of market; by default the one Bybit's address names, else linear.",
)
@click.option("--url", help="The exchange's stream; by default the venue's public one of the category.")
@click.option(
    "--allow-plaintext", is_flag=True, help="Take ws:// to another machine; anybody between can change it."
)
@click.option("--tick-size", help="The instrument's tick size; by default the exchange is asked for it.")
@click.option(
    "--stall-ms",
    type=click.IntRange(min=1),
    default=DEFAULT_STALL_MS,
    show_default=True,
    help="So long without a book message asks for a new snapshot.",
)
@click.option("--verify", is_flag=True, help="Record nothing; prove the CAPTUREs, files or folders, whole.")
@click.option("--allow-gaps", is_flag=True, help="With --verify: lost books are listed and are no fault.")
@click.option("--salvage", is_flag=True, help="With --verify: first close what killed recorders left.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON, with --verify a line a file."
)
def command(
    captures: tuple[Path, ...],
    symbol: str | None,
    venue: Venue,
    depth: str,
    trades: bool,
    out: Path | None,
    into: Path | None,
    rotate_s: int,
    rotate_mib: float,
    seconds: float | None,
    category: str | None,
    url: str | None,
    allow_plaintext: bool,
    tick_size: str | None,
    stall_ms: int,
    verify: bool,
    allow_gaps: bool,
    salvage: bool,
    as_json: bool,
) -> None:
    """Record the raw frames of one symbol's order book, with the time each arrived; or verify CAPTUREs.

    The sequence is checked while recording; a gap is counted and answered by a new snapshot (on Binance the
    answer to a request, recorded where it came). Ctrl-C closes the file whole, and until then it is a
    readable FILE.part. Where no book came by then the exit code is 1, and where nothing of the market did
    there is no file.
    """
    configure_logging("info")
    if verify:
        _verify(captures, allow_gaps=allow_gaps, salvage=salvage, as_json=as_json)
        return
    if captures or allow_gaps or salvage:
        raise click.UsageError("CAPTUREs, --allow-gaps and --salvage go with --verify")
    if symbol is None:
        raise click.UsageError("--symbol is needed to record")
    if (out is None) == (into is None):
        raise click.UsageError("one of --out FILE and --into DIR is needed")
    url, category = resolve_address(venue, url, category)
    check_transport(url, allow_plaintext=allow_plaintext)  # the instrument is asked for over it, too
    if not math.isfinite(rotate_mib):
        raise InputError(f"rotate-mib: {rotate_mib} came, a finite number is allowed, and 0 for never")
    book_topic(
        venue, symbol, read_depth(depth)
    )  # a name that no exchange would list is found before it is asked
    if tick_size is None:
        instrument = find_instrument(url, category, symbol, venue=venue).instrument
    else:
        instrument = Instrument(symbol=symbol, tick_size=tick_size)
    config = RecorderConfig(
        venue=venue,
        depth=read_depth(depth),
        trades=trades,
        url=url,
        instrument=instrument,
        path=out,
        root=into,
        category=category,
        allow_plaintext=allow_plaintext,
        watch_instrument=tick_size is None,
        rotation=RotationPolicy(
            every_s=rotate_s or None, file_bytes=max(1, int(rotate_mib * 2**20)) if rotate_mib else None
        ),
        stall_ms=stall_ms,
        seconds=seconds,
    )
    recorder = Recorder(config)
    summary = run_until_signalled(recorder.run(), recorder.stop)
    assert summary is not None, "a recorder that is stopped answers its summary"
    click.echo(msgspec.json.encode(summary).decode() if as_json else readable(summary))
    if not summary.holds_book:
        kept = "nothing was recorded" if not summary.files else "what came is kept, and is no whole capture"
        raise InputError(f"no book of {symbol} came in {summary.seconds:.1f} s; {kept}")


def readable(summary: RecordingSummary) -> str:
    """The summary for people, on one line."""
    return (
        f"{summary.path}: {counted(summary.frames, 'frame')} in {counted(summary.files, 'file')} "
        f"({counted(summary.frame_bytes, 'byte')}, {summary.file_bytes:,} on disk) "
        f"in {summary.seconds:.1f} s, "
        f"{counted(summary.snapshots, 'snapshot')}, {counted(summary.trades, 'trade')}, "
        f"{counted(summary.gaps, 'gap')}, {counted(summary.resyncs, 'resync')}, "
        f"{counted(summary.connections, 'connection')}"
    )


def counted(count: int, thing: str) -> str:
    """`1 gap`, `2,000 gaps`."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def _verify(captures: tuple[Path, ...], *, allow_gaps: bool, salvage: bool, as_json: bool) -> None:
    """Print a report a file; ends with exit code 1 where one is not whole."""
    if not captures:
        raise click.UsageError("--verify needs a CAPTURE, a file or a folder")
    for folder in sorted(_left_folders(captures)) if salvage else ():
        with folder_lock(folder):
            for path in close_left(folder):
                click.echo(f"{path}: closed, as its recorder was killed", err=True)

    def tell(report: FileReport) -> None:
        click.echo(msgspec.json.encode(report).decode() if as_json else readable_report(report))

    reports = verify_captures(captures, tell)
    faulty = sum(not report.is_whole(allow_gaps=allow_gaps) for report in reports)
    if faulty:
        raise InputError(
            f"{faulty} of {counted(len(reports), 'capture')} not whole; what is wrong stands above"
        )


def _left_folders(captures: tuple[Path, ...]) -> set[Path]:
    """The folders below `captures` that hold a recorder's part file."""
    return {
        part.parent
        for path in captures
        for part in (path.rglob(f"*{RECORDING_SUFFIX}{PART_SUFFIX}") if path.is_dir() else (path,))
        if part.suffix == PART_SUFFIX
    }


def readable_report(report: FileReport) -> str:
    """What became of one file, for people: a line, and one more for each thing to say."""
    lines = [f"{report.path}: {'whole' if report.is_whole(allow_gaps=False) else 'NOT WHOLE'}"]
    if report.index is not None:
        index = report.index
        lines[0] += (
            f", {counted(index.frames, 'frame')}, updates {index.first_update_id} to {index.last_update_id}, "
            f"{counted(index.snapshots, 'snapshot')}, {counted(index.gaps, 'gap')}"
        )
    lines += [f"  fault: {fault}" for fault in report.faults]
    lines += [f"  lost book: {lost}" for lost in report.breaks]
    lines += [f"  note: {note}" for note in report.notes]
    return "\n".join(lines)
