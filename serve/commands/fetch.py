"""`mambalob fetch`: days of Bybit's public order-book archive, into the folders that recordings go to."""

from datetime import UTC, date, datetime
from pathlib import Path

import click
import msgspec

from lob.errors import InputError
from serve.archive import ARCHIVE_URL, DEPTHS, FetchedDay, days_between, fetch_days
from serve.bybit_stream import CATEGORIES
from serve.logs import configure_logging

DAY = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.option("--symbol", required=True, help="The instrument, such as BTCUSDT.")
@click.option(
    "--category",
    type=click.Choice(CATEGORIES),
    default="linear",
    show_default=True,
    help="The kind of market.",
)
@click.option("--from", "first", required=True, type=DAY, metavar="DATE", help="The first day, 2024-12-01.")
@click.option("--to", "last", type=DAY, metavar="DATE", help="The last day; by default the first.")
@click.option(
    "--depth",
    type=click.Choice(["auto", *map(str, sorted(DEPTHS))]),
    default="auto",
    show_default=True,
    help="Levels a side; auto: those that the archive has of the day.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Files go to DIR/bybit/CATEGORY/SYMBOL/orderbook.DEPTH.",
)
@click.option("--base-url", default=ARCHIVE_URL, show_default=True, help="Where the archive is.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a day.")
def command(
    symbol: str,
    category: str,
    first: datetime,
    last: datetime | None,
    depth: str,
    out: Path,
    base_url: str,
    as_json: bool,
) -> None:
    """Download order-book archives by symbol and date, each proven whole and indexed.

    A download that broke off goes on where it stopped, in this run or the next; days that are there are not
    asked for again. Exit code 1 where the archive lacks a day.
    """
    configure_logging("info")
    days = days_between(_day(first), _day(last or first), today=_day(datetime.now(UTC)))
    missing: list[str] = []
    for fetched in fetch_days(
        category=category,
        symbol=symbol,
        days=days,
        depth=None if depth == "auto" else int(depth),
        root=out,
        base_url=base_url,
    ):
        click.echo(msgspec.json.encode(fetched).decode() if as_json else readable(fetched))
        if fetched.status == "missing":
            missing.append(fetched.day)
    if missing:
        raise InputError(f"the archive lacks {len(missing)} of {len(days)} days: {', '.join(missing)}")


def _day(moment: datetime) -> date:
    return moment.date()


def readable(fetched: FetchedDay) -> str:
    """What became of a day, for people, on one line."""
    if fetched.status == "missing":
        return f"{fetched.day}: not in the archive"
    return (
        f"{fetched.day}: {fetched.status}, {fetched.path}: {fetched.file_bytes:,} bytes, "
        f"{fetched.frames:,} frames, {fetched.gaps} gaps"
    )
