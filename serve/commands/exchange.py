"""`mambalob exchange`: a local server that speaks Bybit's public stream."""

import asyncio
import signal
import time
from pathlib import Path

import click
import msgspec

from lob.captures import open_captures
from lob.market import INTERVAL_MS, MarketConfiguration
from serve.exchange import Exchange, ExchangeConfiguration
from serve.listing import Listing, capture_listing, simulated_listing
from serve.logs import configure_logging
from serve.playback import Ending, Pace
from serve.simulated_capture import write_simulated_capture


@click.command("exchange")
@click.argument("captures", nargs=-1, type=click.Path(path_type=Path), metavar="[CAPTURE...]")
@click.option("--simulate", is_flag=True, help="Play a simulated market instead of a capture.")
@click.option("--symbol", "symbols", multiple=True, help="Which symbols to serve; of a capture: all.")
@click.option(
    "--depth",
    "depths",
    multiple=True,
    type=click.Choice(list(map(str, INTERVAL_MS))),
    help="Levels a side of the simulated market's topic [default: 50]. A capture has its own.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the simulated market."
)
@click.option("--tick-size", help="As text, 0.10; else as the capture states it, or inferred from prices.")
@click.option(
    "--speed",
    default="1",
    metavar="N|max",
    show_default=True,
    help="Times the recorded pace, or as fast as it is taken.",
)
@click.option(
    "--then",
    "ending",
    type=click.Choice(["idle", "close", "loop"]),
    default="idle",
    show_default=True,
    help="After the last frame: stay silent, close the connections and end, or start again.",
)
@click.option(
    "--drop-every", type=click.IntRange(min=1), metavar="N", help="Fault: send none of every N-th delta."
)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=9001, show_default=True, help="0: any free one."
)
@click.option(
    "--write", "written", type=click.Path(path_type=Path), help="Record the simulated market here; no server."
)
@click.option("--messages", type=click.IntRange(min=1), help="How many messages to record with --write.")
@click.option("--json", "as_json", is_flag=True, help="Say where it listens, or what was written, as JSON.")
def command(
    captures: tuple[Path, ...],
    simulate: bool,
    symbols: tuple[str, ...],
    depths: tuple[str, ...],
    seed: int,
    tick_size: str | None,
    speed: str,
    ending: Ending,
    drop_every: int | None,
    host: str,
    port: int,
    written: Path | None,
    messages: int | None,
    as_json: bool,
) -> None:
    """Serve CAPTUREs, or a simulated market, as Bybit's public stream does.

    Several CAPTUREs continue one another. A topic starts to play with its first subscription.
    """
    if simulate == bool(captures):
        raise click.UsageError("give either --simulate or the captures to serve")
    if (written is None) != (messages is None):
        raise click.UsageError("--write and --messages go together")
    if written is not None and not simulate:
        raise click.UsageError("--write records the simulated market: it needs --simulate")
    if depths and not simulate:
        raise click.UsageError("--depth is for --simulate; a capture is served at the depths it holds")

    if not simulate:
        listing = capture_listing(open_captures(captures), symbols=symbols, tick_size=tick_size)
    else:
        markets = [
            MarketConfiguration(symbol=symbol, depth=int(depth), seed=seed, tick_size=tick_size or "0.10")
            for symbol in symbols or ("BTCUSDT",)
            for depth in depths or ("50",)
        ]
        if written is not None and messages is not None:
            size = write_simulated_capture(written, markets, messages=messages, created_ns=time.time_ns())
            report = {"path": str(written), "messages": messages, "bytes": size, "source": markets[0].source}
            text = f"{messages:,} messages of the {markets[0].source} written to {written} ({size:,} bytes)"
            click.echo(msgspec.json.encode(report).decode() if as_json else text)
            return
        listing = simulated_listing(markets)
    configuration = ExchangeConfiguration(
        host=host, port=port, pace=Pace.read(speed), ending=ending, drop_every=drop_every
    )
    configure_logging("info")
    asyncio.run(_run(listing, configuration, as_json=as_json))


async def _run(listing: Listing, configuration: ExchangeConfiguration, *, as_json: bool) -> None:
    """Serve until a signal, or the end of the markets where that ends it."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with Exchange(listing, configuration) as exchange:
        topics = list(exchange.timelines)
        report = {"url": exchange.url(), "port": exchange.port, "topics": topics, "source": listing.source}
        text = f"{exchange.url()} serves {', '.join(topics)}: {listing.source}"
        click.echo(msgspec.json.encode(report).decode() if as_json else text)
        ends = [asyncio.create_task(event.wait()) for event in (stopped, exchange.ended)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in ends:
            task.cancel()
    if exchange.failure is not None:
        raise exchange.failure
