"""`mambalob demo`: three real processes on the simulated market, and none left afterwards."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from serve.listener import listen


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


def test_an_unknown_model_is_one_line_and_starts_nothing() -> None:
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
