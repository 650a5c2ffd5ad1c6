"""`mambalob demo`: the whole service on the simulated market, in a terminal."""

import time
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live

from inference.engines.selection import ENGINE_NAMES
from serve.demo import Demo, DemoConfig, DemoState
from serve.demo_view import TITLE, live_view, plain_line
from serve.logs import configure_logging
from serve.process import run_until_signalled

DEFAULT_MODEL = "sim-ssd-small"
"""The artifact that ships for the simulated market."""

VIEW_INTERVAL_S = 0.25
LINE_INTERVAL_S = 2.0


@click.command()
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), help="End after so long of being live."
)
@click.option("--plain", is_flag=True, help="Print lines instead of the live view.")
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="A model's name or directory.")
@click.option(
    "--models-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="A directory of models beside those that ship.",
)
@click.option(
    "--engine",
    type=click.Choice(ENGINE_NAMES),
    default="auto",
    show_default=True,
    help="What computes the model; auto: the quickest that gives the right answers here.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the simulated market."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=0,
    show_default=True,
    help="Of the service; 0: any free one.",
)
def command(
    seconds: float | None,
    plain: bool,
    model: str,
    models_dir: Path | None,
    engine: str,
    seed: int,
    port: int,
) -> None:
    """Run an exchange on the simulated market, the service on it, and watch its predictions as a client.

    The market is a simulation: no real prices, and scores that say nothing about real markets. Ends with a
    line that sums up.
    """
    configure_logging("warning")
    console = Console()
    plain = plain or not console.is_terminal
    config = DemoConfig(
        model=model, models_dir=models_dir, engine=engine, seed=seed, port=port, seconds=seconds
    )
    demo = Demo(config, click.echo)
    click.echo(TITLE)
    if plain:
        began_s = time.monotonic()

        def print_line(state: DemoState) -> None:
            click.echo(plain_line(state, time.monotonic() - began_s))

        run_until_signalled(demo.run(print_line, LINE_INTERVAL_S))
    else:
        with Live(console=console, auto_refresh=False) as live:

            def refresh(state: DemoState) -> None:
                live.update(live_view(state, demo.artifact.name), refresh=True)

            run_until_signalled(demo.run(refresh, VIEW_INTERVAL_S))
    if demo.state.predictions:
        click.echo(demo.state.summary())
