"""The process that makes models ready ends with the service, and when it is not needed."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from inference.preparation import Preparation, PreparationRequest
from serve.preparation_worker import SIZE_BYTES, requests

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a socket as standard input")

Asked = tuple["subprocess.Popen[bytes]", socket.socket]


@pytest.fixture
def worker() -> Iterator[Asked]:
    command = (sys.executable, "-P", "-m", "serve.preparation_worker")
    channel, its_end = socket.socketpair()
    with channel, subprocess.Popen(command, stdin=its_end.fileno(), stdout=its_end.fileno()) as process:
        its_end.close()
        yield process, channel
        process.kill()


def ask(channel: socket.socket, models_dir: Path) -> Preparation:
    request = PreparationRequest(
        model="tiny",
        models_dir=str(models_dir),
        engine="ort-step",
        precision="float32",
        venue="bybit",
        depth=50,
    )
    channel.sendall(msgspec.json.encode(request) + b"\n")
    size = int.from_bytes(channel.recv(SIZE_BYTES, socket.MSG_WAITALL), "little")
    return msgspec.json.decode(channel.recv(size, socket.MSG_WAITALL), type=Preparation)


def test_it_ends_with_its_input_whatever_the_terminal_says(worker: Asked, models_dir: Path) -> None:
    process, channel = worker
    ask(channel, models_dir)
    process.send_signal(signal.SIGINT)
    ask(channel, models_dir)
    channel.close()
    assert process.wait(60) == 0


def test_one_that_nobody_hears_ends_without_a_word(
    worker: Asked, models_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    process, channel = worker
    ask(channel, models_dir)
    process.send_signal(signal.SIGSTOP)
    channel.sendall(
        b'{"model":"none","models_dir":null,"engine":"","precision":"","venue":"bybit","depth":0}\n'
    )
    channel.close()
    process.send_signal(signal.SIGCONT)
    assert process.wait(60) == 0
    assert capfd.readouterr().err == ""


def test_it_ends_when_nothing_is_asked_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    channel, its_end = socket.socketpair()
    with channel, its_end:
        channel.sendall(b"one\n")
        monkeypatch.setattr("serve.preparation_worker.IDLE_S", 0.01)
        assert list(requests(its_end)) == [b"one\n"]
