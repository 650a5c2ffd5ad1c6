"""The process that makes models ready: it gives way to the service, and ends with it."""

import os
import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from inference.preparation import Preparation, PreparationRequest
from serve.preparation_worker import _next

pytestmark = pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="asks Linux' scheduler")


@pytest.fixture
def worker() -> Iterator["subprocess.Popen[bytes]"]:
    command = (sys.executable, "-P", "-m", "serve.preparation_worker")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


def ask(worker: "subprocess.Popen[bytes]", models_dir: Path) -> Preparation:
    request = PreparationRequest(
        model="tiny",
        models_dir=str(models_dir),
        engine="ort-step",
        precision="float32",
        venue="bybit",
        depth=50,
    )
    worker.stdin.write(msgspec.json.encode(request) + b"\n")
    worker.stdin.flush()
    return msgspec.json.decode(worker.stdout.readline(), type=Preparation)


def test_it_runs_when_nobody_else_wants_a_core(worker: "subprocess.Popen[bytes]", models_dir: Path) -> None:
    ask(worker, models_dir)
    assert os.sched_getscheduler(worker.pid) == os.SCHED_IDLE


def test_it_ends_with_its_input_whatever_the_terminal_says(
    worker: "subprocess.Popen[bytes]", models_dir: Path
) -> None:
    ask(worker, models_dir)
    worker.send_signal(signal.SIGINT)
    ask(worker, models_dir)
    worker.stdin.close()
    assert worker.wait(60) == 0


def test_it_ends_when_nothing_is_asked_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    requests.put(b"one")
    monkeypatch.setattr("serve.preparation_worker.IDLE_S", 0.01)
    assert [_next(requests), _next(requests)] == [b"one", b""]
