import io

from rich.console import Console

from inference.prediction import HorizonPrediction, Prediction
from serve.accuracy import MaturedAccuracy
from serve.demo import DemoState
from serve.demo_view import BAR_WIDTH, live_view, plain_line
from serve.responses import BookView, Level


def shown(state: DemoState, width: int = 120) -> str:
    screen = io.StringIO()
    Console(width=width, file=screen).print(live_view(state, "tiny"))
    return screen.getvalue()


def test_the_view_shows_the_book_the_predictions_and_that_it_is_a_simulation() -> None:
    state = DemoState(MaturedAccuracy((1, 2, 3), (0.0, 0.0, 0.0)))
    before = shown(state)
    assert "SIMULATED MARKET" in before
    assert plain_line(state, 1.0) == "  1.0 s  connecting  0 predictions"
    state.state = "live"
    for number in range(6):
        horizons = [HorizonPrediction(k, 1, 0.75, [0.05, 0.2, 0.75]) for k in (1, 2, 3)]
        state.latest = Prediction(
            "BTCUSDT", "m", "1", "e", "float32", 1, 1, 1, 2, 10.0, 100.0 + number, horizons
        )
        state.predictions += 1
        state.accuracy.on_prediction(state.latest)
    state.book = BookView("BTCUSDT", 1, 1, [Level(104.9, 1.5), Level(104.8, 2)], [Level(105.1, 0.25)])
    after = shown(state)
    for words in ("SIMULATED MARKET", "104.90", "105.10", "0.250", "live", "model tiny", "6 predictions"):
        assert words in after, words
    for words in (" up ", "0.75", "1.000"):
        assert after.count(words) == 3 * (1 + (words == "1.000")), words  # right so far, and the commonest
    assert len(before.splitlines()) == len(after.splitlines())  # the view does not jump
    assert plain_line(state, 3.0).startswith("  3.0 s  live  6 predictions  mid 105.00  1: up 0.75")


def test_eighty_columns_hold_the_whole_bars_and_lines() -> None:
    state = DemoState(MaturedAccuracy((1, 2, 3), (0.0, 0.0, 0.0)))
    horizons = [HorizonPrediction(k, 1, k / 4, [0.0, 0.0, k / 4]) for k in (1, 2, 3)]
    state.latest = Prediction("BTCUSDT", "m", "1", "e", "float32", 1, 1, 1, 2, 10.0, 100.0, horizons)
    narrow = shown(state, 80)
    assert "…" not in narrow
    for words in ("SIMULATED MARKET", "matured", "commonest", "rows ahead"):
        assert words in narrow, words
    assert "tick p50 - us, p99 - us" in narrow
    assert narrow.count("━" * BAR_WIDTH) == 3
