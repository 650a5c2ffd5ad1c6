"""`mambalob serve`: an exchange's order book in, calibrated predictions out on a websocket and over HTTP."""

from pathlib import Path

import click
import msgspec

from inference.engines.selection import ENGINE_NAMES
from inference.pipeline import DEFAULT_STALL_MS
from serve.bybit_stream import CATEGORIES, DEPTHS, BookTopic, resolve_stream
from serve.logs import configure_logging
from serve.process import freeze_start_up, run_until_signalled
from serve.service import Service, ServiceConfig

DEFAULT_MODEL = "btc-perp-ssd-small"
"""The artifact that ships for real markets."""


@click.command()
@click.option("--symbol", required=True, help="The instrument, such as BTCUSDT.")
@click.option(
    "--depth",
    type=click.Choice([str(depth) for depth in DEPTHS]),
    default="50",
    show_default=True,
    help="Levels a side of the order-book topic.",
)
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="A model's name or directory.")
@click.option(
    "--category",
    type=click.Choice(CATEGORIES),
    help="Bybit's kind of market; by default the one the address names, else linear.",
)
@click.option("--url", help="The exchange's stream; by default Bybit's public one of the category.")
@click.option("--engine", type=click.Choice(ENGINE_NAMES), default="auto", show_default=True)
@click.option("--tick-size", help="The instrument's tick size; by default the exchange is asked for it.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8_000, show_default=True, help="0: any free port."
)
@click.option(
    "--models-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="A directory of models beside those that ship.",
)
@click.option(
    "--stall-ms",
    type=click.IntRange(min=1),
    default=DEFAULT_STALL_MS,
    show_default=True,
    help="So long without a book message makes the symbol stale.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
@click.option("--json", "as_json", is_flag=True, help="Say where it listens as one JSON object.")
def command(
    symbol: str,
    depth: str,
    model: str,
    category: str | None,
    url: str | None,
    engine: str,
    tick_size: str | None,
    host: str,
    port: int,
    models_dir: Path | None,
    stall_ms: int,
    log_level: str,
    as_json: bool,
) -> None:
    """Serve predictions of one instrument: websocket at /v1/stream, HTTP beside it, documented at /docs.

    Connects to Bybit's public stream by default. Stops in good order on Ctrl-C and on SIGTERM.
    """
    configure_logging(log_level)
    url, category = resolve_stream(url, category)
    service = Service(
        ServiceConfig(
            topic=BookTopic(symbol=symbol, depth=int(depth)),
            url=url,
            category=category,
            model=model,
            models_dir=models_dir,
            engine=engine,
            tick_size=tick_size,
            host=host,
            port=port,
            stall_ms=stall_ms,
        )
    )
    freeze_start_up()
    host, listening_port = service.address
    report = {
        "url": f"http://{host}:{listening_port}",
        "stream": f"ws://{host}:{listening_port}/v1/stream",
        "port": listening_port,
        "model": service.pipeline.artifact.name,
        "engine": service.pipeline.engine.name,
    }
    text = f"{report['url']} (stream {report['stream']}, documentation {report['url']}/docs)"
    click.echo(msgspec.json.encode(report).decode() if as_json else text)
    run_until_signalled(service.run(), service.stop)
