"""`mambalob serve`: an exchange's order books in, calibrated predictions out on a websocket and over HTTP."""

from pathlib import Path
from typing import get_args

import click
import msgspec

from inference.engines.selection import ENGINE_NAMES
from inference.pipeline import DEFAULT_STALL_MS
from inference.precision import PRECISIONS
from lob.bybit import DEPTHS, FULL
from lob.errors import InputError
from lob.venues import Venue
from serve.admin_access import TOKEN_VARIABLE, find_token
from serve.bybit_stream import CATEGORIES, read_depth
from serve.feed_policies import IdlePolicy, LagPolicy, StallPolicy
from serve.instrument_cache import default_cache_dir
from serve.keep_warm import KeepWarmPolicy
from serve.logs import configure_logging
from serve.process import freeze_start_up, run_until_signalled
from serve.publisher_batch import BATCH_MODES, BatchMode, BatchPolicy
from serve.reconnect import ReconnectPolicy
from serve.service import Service, ServiceConfig
from serve.shadow_log import ShadowLogConfig
from serve.symbol_options import milliseconds, per_symbol
from serve.venue_connection import is_this_machine
from serve.venue_topics import resolve_address

DEFAULT_MODEL = "btc-perp-ssd-small"
"""The artifact that ships for real markets."""

RECONNECT, IDLE, LAG = ReconnectPolicy(), IdlePolicy(), LagPolicy()


@click.command()
@click.option(
    "--symbol",
    "symbols",
    required=True,
    multiple=True,
    help="An instrument, such as BTCUSDT; give it again for more, all on one connection.",
)
@click.option(
    "--venue", type=click.Choice(get_args(Venue)), default="bybit", show_default=True, help="The exchange."
)
@click.option(
    "--depth",
    type=click.Choice([*map(str, DEPTHS), FULL]),
    default="50",
    show_default=True,
    help="Levels a side of Bybit's order-book topics, or the whole book; Binance sends the whole book.",
)
@click.option("--trades", is_flag=True, help="Take the public trades in as well (no model reads them yet).")
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="A model's name or directory.")
@click.option(
    "--category",
    type=click.Choice(CATEGORIES),
    help="The kind of market; by default the one Bybit's address names, else linear.",
)
@click.option("--url", help="The exchange's stream; by default the venue's public one of the category.")
@click.option(
    "--allow-plaintext",
    is_flag=True,
    help="Take ws:// to another machine; anybody between can change it.",
)
@click.option(
    "--engine",
    type=click.Choice(ENGINE_NAMES),
    default="auto",
    show_default=True,
    help="What computes the model; auto: the quickest that gives the right answers here.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    show_default=True,
    help="The number format that the engine answers in; `mambalob models` says which each engine offers.",
)
@click.option(
    "--tick-size",
    "tick_sizes",
    multiple=True,
    metavar="[SYMBOL=]SIZE",
    help="The tick size; by default the exchange is asked for it.",
)
@click.option(
    "--cache-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the exchange's instrument data is kept for when it does not answer; by default the "
    "platform's folder for caches, and none for an exchange on this machine.",
)
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
    "--admin-token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Holds the token of the routes that change models; or the variable {TOKEN_VARIABLE}. Without a "
    "token there are none.",
)
@click.option(
    "--shadow-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the predictions of models in the shadow are written, 256 MiB at most; by default they are "
    "only counted.",
)
@click.option(
    "--stall-ms",
    "stalls",
    multiple=True,
    metavar="[SYMBOL=]MS",
    help=f"So long without a book message makes a symbol stale.  [default: {DEFAULT_STALL_MS}]",
)
@click.option(
    "--idle-s",
    type=float,
    default=IDLE.probe_after_s,
    show_default=True,
    help="After so long without any frame a ping is sent; after as long again without one the connection is "
    "given up.",
)
@click.option(
    "--maximum-wait-ms",
    type=click.IntRange(min=0),
    default=LAG.maximum_wait_ms,
    show_default=True,
    help="A frame handled so long after its arrival in the process makes its symbol stale; 0: no limit.",
)
@click.option(
    "--maximum-lag-ms",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="So does one later than usual by so much, by the exchange's time in it; 0: no limit, as for "
    "recorded times.",
)
@click.option(
    "--keep-warm-ms",
    type=float,
    help="After each so many milliseconds without a frame a tick is rehearsed on no symbol's state, which "
    "keeps weights and code in the caches; by default none is.",
)
@click.option(
    "--busy-poll",
    is_flag=True,
    help="Look at the sockets again and again instead of sleeping; takes a core whole.",
)
@click.option(
    "--batch",
    type=click.Choice(BATCH_MODES),
    default="auto",
    show_default=True,
    help="Take the steps of several symbols whose frames wait as one call, the same bit for bit; auto: of "
    "many symbols and a large model (docs/many-symbols.md).",
)
@click.option(
    "--reconnect-initial-s",
    type=float,
    default=RECONNECT.initial_s,
    show_default=True,
    help="The wait before the first new attempt at a connection; it doubles with each.",
)
@click.option(
    "--reconnect-cap-s", type=float, default=RECONNECT.cap_s, show_default=True, help="The longest such wait."
)
@click.option(
    "--reconnect-jitter",
    type=float,
    default=RECONNECT.jitter,
    show_default=True,
    help="The share of the wait, 0 to 1, that is drawn at random.",
)
@click.option(
    "--reconnect-attempts",
    type=click.IntRange(min=1),
    help="Give up after so many attempts in a row; by default never.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="The least that is written to standard error.",
)
@click.option("--json", "as_json", is_flag=True, help="Say where it listens as one JSON object.")
def command(
    symbols: tuple[str, ...],
    venue: Venue,
    depth: str,
    trades: bool,
    model: str,
    category: str | None,
    url: str | None,
    allow_plaintext: bool,
    engine: str,
    precision: str,
    tick_sizes: tuple[str, ...],
    cache_dir: Path | None,
    host: str,
    port: int,
    models_dir: Path | None,
    admin_token_file: Path | None,
    shadow_dir: Path | None,
    stalls: tuple[str, ...],
    idle_s: float,
    maximum_wait_ms: int,
    maximum_lag_ms: int,
    keep_warm_ms: float | None,
    busy_poll: bool,
    batch: BatchMode,
    reconnect_initial_s: float,
    reconnect_cap_s: float,
    reconnect_jitter: float,
    reconnect_attempts: int | None,
    log_level: str,
    as_json: bool,
) -> None:
    """Serve predictions of some instruments: websocket at /v1/stream, HTTP beside it, documented at /docs.

    Connects to Bybit's public stream by default. Stops in good order on Ctrl-C and on SIGTERM.
    """
    configure_logging(log_level)
    admin_token = find_token(admin_token_file)
    if shadow_dir is not None and admin_token is None:
        raise InputError(
            f"--shadow-dir: {shadow_dir} came without a token; only the admin routes put a model in the "
            f"shadow, and they need --admin-token-file or {TOKEN_VARIABLE}"
        )
    url, category = resolve_address(venue, url, category)
    tick_size, tick_by_symbol = per_symbol("tick-size", tick_sizes)
    if tick_size is not None:
        tick_by_symbol = dict.fromkeys(symbols, tick_size) | tick_by_symbol
    stall_ms, stall_by_symbol = per_symbol("stall-ms", stalls)
    if cache_dir is None and not is_this_machine(url):
        cache_dir = default_cache_dir()
    service = Service(
        ServiceConfig(
            symbols=symbols,
            venue=venue,
            depth=read_depth(depth),
            trades=trades,
            url=url,
            allow_plaintext=allow_plaintext,
            category=category,
            model=model,
            models_dir=models_dir,
            engine=engine,
            precision=precision,
            tick_sizes=tick_by_symbol,
            cache_dir=cache_dir,
            host=host,
            port=port,
            admin_token=admin_token,
            shadow_log=None if shadow_dir is None else ShadowLogConfig(directory=shadow_dir),
            stall=StallPolicy(
                after_ms=DEFAULT_STALL_MS if stall_ms is None else milliseconds("stall-ms", stall_ms),
                by_symbol={one: milliseconds("stall-ms", text) for one, text in stall_by_symbol.items()},
            ),
            lag=LagPolicy(maximum_wait_ms=maximum_wait_ms or None, maximum_lag_ms=maximum_lag_ms or None),
            keep_warm=KeepWarmPolicy(every_ms=keep_warm_ms, busy_poll=busy_poll),
            batch=BatchPolicy(mode=batch),
            idle=IdlePolicy(probe_after_s=idle_s, answer_within_s=idle_s),
            reconnect=ReconnectPolicy(
                initial_s=reconnect_initial_s,
                cap_s=reconnect_cap_s,
                jitter=reconnect_jitter,
                attempts=reconnect_attempts,
            ),
        )
    )
    freeze_start_up()
    host, listening_port = service.address
    report = {
        "url": f"http://{host}:{listening_port}",
        "stream": f"ws://{host}:{listening_port}/v1/stream",
        "port": listening_port,
        "symbols": list(symbols),
        "model": service.artifact.name,
        "engine": service.engine_name,
        "precision": precision,
    }
    text = f"{report['url']} (stream {report['stream']}, documentation {report['url']}/docs)"
    click.echo(msgspec.json.encode(report).decode() if as_json else text)
    run_until_signalled(service.run(), service.stop)
