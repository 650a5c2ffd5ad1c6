"""`mambalob exchange`: a local server that speaks Bybit's public stream."""

import asyncio
import signal
import time
from pathlib import Path

import click
import msgspec

from lob.bybit import DEPTHS, FULL
from lob.captures import open_captures
from lob.market import MarketConfiguration
from serve.bybit_stream import read_depth
from serve.exchange import Exchange, ExchangeConfiguration
from serve.fault_plan import KINDS, FaultPlan, read_rule, read_script
from serve.listing import Listing, capture_listing, simulated_listing
from serve.logs import configure_logging
from serve.playback import Ending, Pace
from serve.simulated_capture import write_simulated_capture

ALL_DEPTHS = ("1", "50", "200", "1000")
RANDOM_EVERY_S = 10.0


@click.command("exchange")
@click.argument("captures", nargs=-1, type=click.Path(path_type=Path), metavar="[CAPTURE...]")
@click.option("--simulate", is_flag=True, help="Play a simulated market instead of a capture.")
@click.option("--symbol", "symbols", multiple=True, help="Which symbols to serve; of a capture: all.")
@click.option(
    "--depth",
    "depths",
    multiple=True,
    type=click.Choice([*map(str, DEPTHS), FULL, "all"]),
    help="Levels a side of the simulated market's topics, of one book [default: 50]; all: 1, 50, 200, 1000; "
    "full: the whole book.",
)
@click.option("--trades", is_flag=True, help="Serve publicTrade of the simulated market too.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of the simulated market and of the faults.",
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
@click.option(
    "--fault",
    "rules",
    multiple=True,
    metavar="KIND[:NAME=VALUE,...]",
    help="Inject a fault, as drop:every=100,after=50; docs/exchange.md lists kinds and names. Repeatable.",
)
@click.option(
    "--faults", "script", metavar="random|FILE", help="Faults at random, or those of a script of JSON lines."
)
@click.option(
    "--fault-every",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="About how long random faults are apart, for each symbol [default: 10].",
)
@click.option(
    "--fault-kind", "kinds", multiple=True, type=click.Choice(list(KINDS)), help="Random: only these."
)
@click.option(
    "--fault-log", type=click.Path(path_type=Path), help="Write a JSON line for each injected fault here."
)
@click.option(
    "--book-log", type=click.Path(path_type=Path), help="Write the digest of the book at each update here."
)
@click.option(
    "--idle-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=600,
    show_default=True,
    help="End a connection on which nothing is said for so long.",
)
@click.option(
    "--max-connections", type=click.IntRange(min=1), default=1_000, show_default=True, help="Refuse more."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
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
    trades: bool,
    rules: tuple[str, ...],
    script: str | None,
    fault_every: float | None,
    kinds: tuple[str, ...],
    fault_log: Path | None,
    book_log: Path | None,
    idle_seconds: float,
    max_connections: int,
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
    if written is not None and (rules or script or drop_every or fault_log or book_log):
        raise click.UsageError(
            "--write records the market as it is: "
            "--fault, --faults, --drop-every, --fault-log and --book-log are for the server"
        )
    if (depths or trades) and not simulate:
        name = "--depth" if depths else "--trades"
        raise click.UsageError(f"{name} is for --simulate; a capture is served with what it holds")
    if (fault_every is not None or kinds) and script != "random":
        raise click.UsageError("--fault-every and --fault-kind are for --faults random")

    configuration = ExchangeConfiguration(
        host=host,
        port=port,
        pace=Pace.read(speed),
        ending=ending,
        drop_every=drop_every,
        idle_s=idle_seconds,
        maximum_connections=max_connections,
        faults=_plan(rules, script, fault_every, kinds, seed),
        fault_log=fault_log,
        book_log=book_log,
    )
    if not simulate:
        listing = capture_listing(open_captures(captures), symbols=symbols, tick_size=tick_size)
    else:
        markets = [
            MarketConfiguration(symbol=symbol, depth=int(depth), seed=seed, tick_size=tick_size or "0.10")
            for symbol in symbols or ("BTCUSDT",)
            for depth in _depths(depths)
        ]
        if written is not None and messages is not None:
            size = write_simulated_capture(
                written, markets, messages=messages, created_ns=time.time_ns(), trades=trades
            )
            report = {"path": str(written), "messages": messages, "bytes": size, "source": markets[0].source}
            text = f"{messages:,} messages of the {markets[0].source} written to {written} ({size:,} bytes)"
            click.echo(msgspec.json.encode(report).decode() if as_json else text)
            return
        listing = simulated_listing(markets, trades=trades)
    configure_logging("info")
    asyncio.run(_run(listing, configuration, as_json=as_json))


def _depths(given: tuple[str, ...]) -> tuple[int, ...]:
    """The depths that the options name, each once."""
    names = [name for one in given or ("50",) for name in (ALL_DEPTHS if one == "all" else (one,))]
    return tuple(dict.fromkeys(map(read_depth, names)))


def _plan(
    rules: tuple[str, ...],
    script: str | None,
    fault_every: float | None,
    kinds: tuple[str, ...],
    seed: int,
) -> FaultPlan:
    """The faults that the options ask for."""
    asked = tuple(map(read_rule, rules))
    if script is None:
        return FaultPlan(rules=asked, seed=seed)
    if script != "random":
        return FaultPlan(rules=asked + read_script(Path(script)), seed=seed)
    return FaultPlan(
        rules=asked,
        random_every_s=RANDOM_EVERY_S if fault_every is None else fault_every,
        random_kinds=kinds or tuple(KINDS),
        seed=seed,
    )


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
