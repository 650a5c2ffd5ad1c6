"""What the demo shows: a live terminal view, or plain lines."""

from rich.align import Align
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from inference.prediction import HorizonPrediction
from serve.accuracy import HorizonAccuracy
from serve.demo import BOOK_LEVELS, SYMBOL, DemoState
from serve.responses import BookView

TITLE = "SIMULATED MARKET: no real prices, and a future that is partly predictable by construction"
DIRECTIONS = {-1: ("down", "red"), 0: ("flat", "yellow"), 1: ("up", "green")}
STATE_STYLES = {"live": "bold green", "warming": "yellow", "stale": "bold red"}
BAR_WIDTH = 10


def live_view(state: DemoState, model: str) -> RenderableType:
    """The whole view: book, predictions with their accuracy, state and latency."""
    return Panel(
        Group(_status(state, model), Text(), _book(state.book), Text(), _predictions(state)),
        title="[bold]mambalob demo[/bold]  SIMULATED MARKET",
        subtitle="no real prices; partly predictable by construction; Ctrl-C ends it",
    )


def plain_line(state: DemoState, seconds: float) -> str:
    """One line of progress."""
    parts = [f"{seconds:5.1f} s", state.state, f"{state.predictions:,} predictions"]
    if state.latest is not None:
        parts.append(f"mid {state.latest.mid:.2f}")
        parts += [
            f"{h.horizon}: {DIRECTIONS[h.direction][0]} {h.confidence:.2f}" for h in state.latest.horizons
        ]
    latency = state.tick_latency_us()
    if latency is not None:
        parts.append(f"tick p50 {latency[0]:.0f} us p99 {latency[1]:.0f} us")
    return "  ".join(parts)


def _status(state: DemoState, model: str) -> RenderableType:
    """Two lines, which 80 columns hold: the state and its reason, then the counts and the latency."""
    latency = state.tick_latency_us()
    told = Text.assemble(
        f"{SYMBOL} is ",
        (state.state, STATE_STYLES.get(state.state, "yellow")),
        f"   model {model}",
        (f"   {state.reason}" if state.reason else "", "dim"),
    )
    counts = [
        f"{state.predictions:,} predictions",
        "tick p50 - us, p99 - us"
        if latency is None
        else f"tick p50 {latency[0]:,.0f} us, p99 {latency[1]:,.0f} us",
    ]
    if state.missed:
        counts.append(f"{state.missed:,} missed")
    return Group(told, Text("   ".join(counts)))


def _book(book: BookView | None) -> RenderableType:
    """Bids to the left, asks to the right, the touch on top; as many rows whether there is a book or not."""
    table = Table(box=None, header_style="dim", padding=(0, 2))
    for name in ("size", "bid", "ask", "size"):
        table.add_column(name, justify="right", min_width=10)
    for level in range(BOOK_LEVELS):
        bid = book.bids[level] if book is not None and level < len(book.bids) else None
        ask = book.asks[level] if book is not None and level < len(book.asks) else None
        table.add_row(
            Text(f"{bid.size:.3f}" if bid else "", style="dim"),
            Text(f"{bid.price:.2f}" if bid else "", style="green"),
            Text(f"{ask.price:.2f}" if ask else "", style="red"),
            Text(f"{ask.size:.3f}" if ask else "", style="dim"),
        )
    return Align.center(table)


def _predictions(state: DemoState) -> Table:
    table = Table(expand=True, box=None, header_style="dim")
    for name in ("rows ahead", "direction", "confidence", "", "right so far", "commonest class", "matured"):
        table.add_column(
            name,
            justify="right" if name in ("right so far", "matured") else "left",
            min_width={"confidence": BAR_WIDTH, "matured": len(name)}.get(name),
        )
    latest = {h.horizon: h for h in state.latest.horizons} if state.latest is not None else {}
    for score in state.accuracy.horizons:
        table.add_row(str(score.horizon), *_answer(latest.get(score.horizon)), *_score(score))
    return table


def _answer(prediction: HorizonPrediction | None) -> tuple[RenderableType, RenderableType, RenderableType]:
    if prediction is None:
        return Text("-"), Text(" " * BAR_WIDTH), Text("")
    name, colour = DIRECTIONS[prediction.direction]
    filled = round(prediction.confidence * BAR_WIDTH)
    bar = Text.assemble(("━" * filled, colour), ("━" * (BAR_WIDTH - filled), "grey23"))
    return Text(name, style=f"bold {colour}"), bar, Text(f"{prediction.confidence:.2f}")


def _score(score: HorizonAccuracy) -> tuple[str, str, str]:
    if score.accuracy is None or score.commonest_share is None:
        return "-", "-", "0"
    return f"{score.accuracy:.3f}", f"{score.commonest_share:.3f}", f"{score.matured:,}"
