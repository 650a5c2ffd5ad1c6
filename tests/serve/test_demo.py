"""The demo: three real processes on the simulated market, and what it shows."""

import io
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from inference.prediction import HorizonPrediction, Prediction
from serve.accuracy import MaturedAccuracy
from serve.demo import DemoState
from serve.demo_view import live_view, plain_line
from serve.listener import listen
from serve.messages import parse_push
from serve.responses import BookView, Level


def demo_command(models_dir: Path, *arguments: str) -> list[str]:
    return [
        *(sys.executable, "-m", "mambalob", "demo", "--plain"),
        *("--model", "tiny", "--models-dir", str(models_dir), *arguments),
    ]


def processes_with(marker: str) -> list[str]:
    """The command lines of this machine's processes that hold `marker`, the demo's children among them."""
    listed = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if marker in line and "ps -ww" not in line]


def test_a_timed_demo_ends_by_itself_with_a_summary_and_no_children(models_dir) -> None:
    done = subprocess.run(
        demo_command(models_dir, "--seconds", "4", "--seed", "90210"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("SIMULATED MARKET: no real prices")
    assert any("  live  " in line for line in lines)
    summary = re.fullmatch(
        r"([\d,]+) predictions, tick p50 (\d+) us, p99 (\d+) us, accuracy "
        r"(0\.\d+|1\.000) at 10 rows \(([\d,]+) matured\), .* at 50 rows .*, .* at 100 rows .*",
        lines[-1],
    )
    assert summary is not None, lines[-1]
    predictions = int(summary[1].replace(",", ""))
    assert predictions >= 100
    assert int(summary[5].replace(",", "")) == predictions - 10
    assert 0 < int(summary[2]) <= int(summary[3])
    assert processes_with("--seed 90210") == []


def test_a_service_that_does_not_come_up_ends_the_demo_with_its_words(models_dir) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            demo_command(models_dir, "--seconds", "5", "--seed", "90211", "--port", str(port)),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert (
        f"mambalob serve ended with code 1 before it came up: Error: cannot listen on 127.0.0.1:{port}"
        in (done.stderr)
    )
    assert processes_with("--seed 90211") == []


def test_an_unknown_model_is_one_line_and_starts_nothing(models_dir) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mambalob", "demo", "--plain", "--model", "huge"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "model: 'huge' came" in done.stderr


def test_ctrl_c_ends_the_demo_and_its_children(models_dir) -> None:
    with subprocess.Popen(
        demo_command(models_dir, "--seed", "90212"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        try:
            for line in demo.stdout:
                if "  live  " in line:
                    break
            assert len(processes_with("--seed 90212")) == 2  # itself and the exchange
            demo.send_signal(signal.SIGINT)
            rest = demo.communicate(timeout=20)[0]
        finally:
            demo.kill()
    assert demo.returncode == 0
    assert " predictions, tick p50 " in rest.splitlines()[-1]
    time.sleep(0.1)
    assert processes_with("--seed 90212") == []


def test_a_demo_that_is_killed_outright_leaves_no_children_either(models_dir) -> None:
    with subprocess.Popen(
        demo_command(models_dir, "--seed", "90213"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as demo:
        for line in demo.stdout:
            if "serving at" in line:
                break
        demo.kill()
    deadline_s = time.monotonic() + 10
    while processes_with("--seed 90213") and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert processes_with("--seed 90213") == []


def push(**fields: object) -> object:
    return parse_push(json.dumps({"topic": "prediction.BTCUSDT", "seq": 1, "ts": 1, **fields}).encode())


@pytest.fixture
def state() -> DemoState:
    state = DemoState(MaturedAccuracy((1, 2, 3), (0.0, 0.0, 0.0)))
    state.take(push(type="state", data={"state": "live", "reason": ""}))
    return state


def predicted(mid: float, latency_us: float) -> dict:
    horizons = [HorizonPrediction(k, 1, 0.75, [0.05, 0.2, 0.75]) for k in (1, 2, 3)]
    prediction = Prediction("BTCUSDT", "m", "e", 1, 1, 1, 2, latency_us, mid, horizons)
    return {"type": "prediction", "data": msgspec.to_builtins(prediction)}


def test_the_state_counts_what_it_is_told(state: DemoState) -> None:
    for number in range(6):
        state.take(push(**predicted(100.0 + number, 10.0 * (number + 1))))
    assert state.predictions == 6
    assert state.tick_latency_us() == (35.0, pytest.approx(59.5))
    assert [score.matured for score in state.accuracy.horizons] == [5, 4, 3]
    assert state.summary() == (
        "6 predictions, tick p50 35 us, p99 60 us, accuracy 1.000 at 1 rows (5 matured), "
        "1.000 at 2 rows (4 matured), 1.000 at 3 rows (3 matured)"
    )
    state.take(push(**predicted(90.0, 10.0), missed=4))
    assert state.missed == 4
    assert [score.matured for score in state.accuracy.horizons] == [5, 4, 3]  # nothing matures over a hole
    state.take(push(type="state", data={"state": "stale", "reason": "gap"}))
    assert state.latest is None


def test_the_view_shows_the_book_the_predictions_and_that_it_is_a_simulation(state: DemoState) -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(live_view(state, "tiny"))
    before = console.export_text()
    for number in range(6):
        state.take(push(**predicted(100.0 + number, 10.0)))
    state.book = BookView("BTCUSDT", 1, 1, [Level(104.9, 1.5), Level(104.8, 2)], [Level(105.1, 0.25)])
    console.print(live_view(state, "tiny"))
    shown = console.export_text()
    assert "SIMULATED MARKET" in before
    assert "SIMULATED MARKET" in shown
    for words in ("104.90", "105.10", "0.250", "live", "model tiny", "6 predictions", "up", "0.75", "1.000"):
        assert words in shown, words
    assert len(before.splitlines()) == len(shown.splitlines())  # the view does not jump
    assert plain_line(state, 3.0).startswith("  3.0 s  live  6 predictions  mid 105.00  1: up 0.75")
