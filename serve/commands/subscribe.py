"""`mambalob subscribe`: print a service's stream."""

import sys
from contextlib import aclosing

import click
import msgspec

from inference.prediction import Prediction
from serve.client import StreamClient
from serve.logs import configure_logging
from serve.messages import ModelData, Push, StateData
from serve.process import run_until_signalled

DIRECTIONS = {-1: "down", 0: "flat", 1: "up"}

_prediction_decoder = msgspec.json.Decoder(Prediction)
_state_decoder = msgspec.json.Decoder(StateData)
_model_decoder = msgspec.json.Decoder(ModelData)


@click.command()
@click.option(
    "--url", default="ws://127.0.0.1:8000/v1/stream", show_default=True, help="The service's stream."
)
@click.option("--symbol", "symbols", required=True, multiple=True, help="An instrument; may be repeated.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many predictions.")
@click.option("--json", "as_json", is_flag=True, help="Print every message as the JSON line that came.")
def command(url: str, symbols: tuple[str, ...], count: int | None, as_json: bool) -> None:
    """Print the predictions and states of a running service, one a line, until Ctrl-C.

    A lost connection is made again; the first must succeed.
    """
    configure_logging("warning")
    client = StreamClient(url, symbols)
    run_until_signalled(_print_messages(client, count, as_json))


async def _print_messages(client: StreamClient, count: int | None, as_json: bool) -> None:
    predictions = 0
    async with aclosing(client.messages()) as messages:
        async for push, text in messages:
            sys.stdout.write(f"{text.decode() if as_json else readable(push)}\n")
            sys.stdout.flush()
            predictions += push.type == "prediction"
            if predictions == count:
                return


def readable(push: Push) -> str:
    """A message for people: its symbol, what it says, and what was left out before it."""
    symbol = push.topic.partition(".")[2]
    missed = f"  ({push.missed} missed before)" if push.missed else ""
    if push.type == "state":
        state = _state_decoder.decode(push.data)
        return f"{symbol}  {state.state}{': ' if state.reason else ''}{state.reason}{missed}"
    if push.type == "model":
        model = _model_decoder.decode(push.data)
        return (
            f"{symbol}  model {model.model}@{model.model_version} answers, before it {model.previous}{missed}"
        )
    prediction = _prediction_decoder.decode(push.data)
    horizons = "  ".join(
        f"{h.horizon}: {DIRECTIONS[h.direction]:<4} {h.confidence:.3f}" for h in prediction.horizons
    )
    return (
        f"{symbol}  u {prediction.update_id}  mid {prediction.mid:.10g}  {horizons}  "
        f"{prediction.latency_us:.0f} us{missed}"
    )
