"""Models are made ready in a process of their own: whatever becomes of it, the service goes on."""

import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, cast

import msgspec
import pytest

from inference.preparation import Preparation, PreparationRequest, Words, prepare, take
from lob.errors import ArtifactError, InputError
from lob.window import RingWindow
from serve.admin_access import TOKEN_VARIABLE
from serve.model_preparer import ModelPreparer
from tests.tiny_model import WINDOW_LENGTH

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and stops processes")


@pytest.fixture
def preparer() -> Iterator[ModelPreparer]:
    made = ModelPreparer()
    yield made
    made.close()


@pytest.fixture
def asked(models_dir: Path) -> PreparationRequest:
    return PreparationRequest(
        model="tiny",
        models_dir=str(models_dir),
        engine="auto",
        precision="float32",
        venue="bybit",
        depth=50,
    )


def pid(preparer: ModelPreparer) -> int:
    assert preparer._worker is not None
    return preparer._worker.process.pid


def begin(preparer: ModelPreparer, asked: PreparationRequest) -> "Future[tuple[Preparation, Words]]":
    """Ask on another thread, of a process that is stopped; it has been asked when this returns."""
    os.kill(pid(preparer), signal.SIGSTOP)
    process = preparer._worker.process
    stdin = process.stdin
    flush, written = stdin.flush, threading.Event()

    class Pipe:
        def write(self, line: bytes) -> None:
            stdin.write(line)

        def flush(self) -> None:
            flush()
            written.set()

        def close(self) -> None:
            stdin.close()

    process.stdin = cast("IO[bytes]", Pipe())
    future = ThreadPoolExecutor(1).submit(preparer.prepare, asked)
    assert written.wait(60)
    return future


def test_a_model_is_made_ready_by_another_process_and_the_next_by_the_same(
    preparer: ModelPreparer, asked: PreparationRequest
) -> None:
    preparation, words = preparer.prepare(asked)
    child = pid(preparer)
    assert child != os.getpid()
    own, own_words = prepare(asked)
    assert preparation == own
    assert words.tobytes() == own_words.tobytes()
    assert take(preparation, words, RingWindow(WINDOW_LENGTH, 44)).name == "fused"
    preparation, words = preparer.prepare(msgspec.structs.replace(asked, engine="ort-step"))
    assert (preparation.sizes, words.size) == (None, 0)
    assert pid(preparer) == child


def test_refusals_come_across_as_what_they_are(preparer: ModelPreparer, asked: PreparationRequest) -> None:
    with pytest.raises(ArtifactError, match="absent"):
        preparer.prepare(msgspec.structs.replace(asked, model="absent"))
    with pytest.raises(InputError, match="engine: 'none' came"):
        preparer.prepare(msgspec.structs.replace(asked, engine="none"))
    assert preparer.prepare(asked)[0].artifact.name == "tiny"


def test_a_process_that_was_killed_in_between_is_replaced(
    preparer: ModelPreparer, asked: PreparationRequest
) -> None:
    preparer.prepare(asked)
    child = pid(preparer)
    os.kill(child, signal.SIGKILL)
    assert preparer.prepare(asked)[0].artifact.name == "tiny"
    assert pid(preparer) != child


def test_a_process_that_is_killed_over_a_model_is_replaced_once(
    preparer: ModelPreparer, asked: PreparationRequest
) -> None:
    preparer.prepare(asked)
    child = pid(preparer)
    future = begin(preparer, asked)
    os.kill(child, signal.SIGKILL)
    assert future.result(60)[0].artifact.name == "tiny"
    assert pid(preparer) != child


@pytest.mark.parametrize("said", ["", """printf '{"type":"prepared","directory":"/hal'\n"""])
def test_a_process_that_ends_over_a_model_again_costs_that_model_alone(
    preparer: ModelPreparer,
    asked: PreparationRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\necho once >> $0.runs\n{said}echo went wrong >&2\nexit 3\n")
    program.chmod(0o700)
    with monkeypatch.context() as context:
        context.setattr("serve.model_preparer.sys.executable", str(program))
        with pytest.raises(
            ArtifactError, match="model tiny: the process that makes it ready ended with code 3: went wrong"
        ):
            preparer.prepare(asked)
    assert (tmp_path / "python.runs").read_text() == "once\nonce\n"
    assert preparer.prepare(asked)[0].artifact.name == "tiny"


def test_a_process_that_cannot_be_started_costs_that_model_alone(
    preparer: ModelPreparer, asked: PreparationRequest
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)  # the lowest there is
    os.close(free)
    for left in range(4):  # of those for its errors and its pipes
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + left, hard))
        try:
            with pytest.raises(
                ArtifactError, match="model tiny: the process that makes it ready cannot be started: Too many"
            ):
                preparer.prepare(asked)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert os.dup(0) == free, "a descriptor was left open"
    os.close(free)
    assert preparer.prepare(asked)[0].artifact.name == "tiny"


def test_what_takes_too_long_is_given_up(asked: PreparationRequest) -> None:
    hasty = ModelPreparer(timeout_s=0.01)
    with pytest.raises(ArtifactError, match="was ended by signal 9, for taking too long"):
        hasty.prepare(asked)
    hasty.close()


def test_closing_gives_up_what_is_under_way(preparer: ModelPreparer, asked: PreparationRequest) -> None:
    preparer.prepare(asked)
    future = begin(preparer, asked)
    preparer.close()
    with pytest.raises(ArtifactError, match=r"was ended by signal (9|15)"):
        future.result(60)
    with pytest.raises(ArtifactError, match="nothing is made ready any more"):
        preparer.prepare(asked)


def test_the_process_does_not_know_the_token(
    preparer: ModelPreparer, asked: PreparationRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "a-token-of-this-test")
    preparer.prepare(asked)
    environment = Path(f"/proc/{pid(preparer)}/environ").read_bytes()
    assert b"PATH=" in environment
    assert b"a-token-of-this-test" not in environment


def test_our_code_runs_whatever_the_working_directory_holds(
    preparer: ModelPreparer, asked: PreparationRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "serve").mkdir()
    (tmp_path / "serve" / "__init__.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    assert preparer.prepare(asked)[0].artifact.name == "tiny"
