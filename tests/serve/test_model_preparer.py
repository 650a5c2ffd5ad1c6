"""Models are made ready in a process of their own: whatever becomes of it, the service goes on."""

import array
import asyncio
import errno
import fcntl
import gc
import os
import resource
import signal
import socket
import sys
import termios
import time
from asyncio import Task
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from inference.preparation import Preparation, PreparationRequest, Words, prepare, take
from lob.errors import ArtifactError, InputError
from lob.window import RingWindow
from serve.admin_access import TOKEN_VARIABLE
from serve.model_preparer import ModelPreparer
from serve.turns import Turns
from tests.serve.preparing_program import program_that, program_that_chooses_pages
from tests.tiny_model import WINDOW_LENGTH

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and stops processes"),
]


@pytest.fixture
async def preparer() -> AsyncIterator[ModelPreparer]:
    made = ModelPreparer(Turns())
    yield made
    await made.close()


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


async def begin(preparer: ModelPreparer, asked: PreparationRequest) -> "Task[tuple[Preparation, Words]]":
    """Ask a process that is stopped; it has been asked when this returns."""
    assert preparer._worker is not None
    os.kill(pid(preparer), signal.SIGSTOP)
    task = asyncio.create_task(preparer.prepare(asked))
    unread = array.array("i", [0])
    with socket.socket(fileno=os.dup(preparer._worker._channel.fileno())) as channel:
        while not unread[0]:
            await asyncio.sleep(0.001)
            fcntl.ioctl(channel, termios.TIOCOUTQ, unread)
    return task


async def test_a_model_is_made_ready_by_another_process_and_the_next_by_the_same(
    preparer: ModelPreparer, asked: PreparationRequest
) -> None:
    preparation, words = await preparer.prepare(asked)
    child = pid(preparer)
    assert child != os.getpid()
    own, packed = prepare(asked)
    assert preparation == own
    assert packed is not None
    assert words.tobytes() == packed.words.tobytes()
    assert take(preparation, words, RingWindow(WINDOW_LENGTH, 44)).name == "fused"
    preparation, words = await preparer.prepare(msgspec.structs.replace(asked, engine="ort-step"))
    assert (preparation.sizes, words.size) == (None, 0)
    assert pid(preparer) == child


NAME_IN_MEMORY = "memfd:mambalob-weights"


def mapped_pages() -> int:
    """Mappings that this process has of files that weights lie in."""
    return Path("/proc/self/maps").read_text().count(NAME_IN_MEMORY)


def open_page_files() -> int:
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]  # not the listing's own
    return sum(NAME_IN_MEMORY in str(link.readlink()) for link in links)


async def test_weights_whose_pages_were_chosen_are_taken_over_where_they_lie(
    preparer: ModelPreparer, asked: PreparationRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, packed = prepare(asked)
    assert packed is not None
    assert own.pages == ()
    with monkeypatch.context() as context:
        context.setattr("serve.model_preparer.sys.executable", program_that_chooses_pages(tmp_path))
        preparation, words = await preparer.prepare(asked)
    assert preparation.description["pages"] == "chosen"
    assert mapped_pages() == len(preparation.pages) > 0
    assert open_page_files() == 0
    os.kill(pid(preparer), signal.SIGKILL)
    await preparer.close()
    assert words.tobytes() == packed.words.tobytes()
    engine = take(preparation, words, RingWindow(WINDOW_LENGTH, 44))
    assert engine.describe() == {**packed.description, "pages": "chosen"}
    del engine, words
    gc.collect()
    assert mapped_pages() == 0


async def test_weights_that_cannot_be_taken_over_cost_that_model_alone(
    preparer: ModelPreparer, asked: PreparationRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with monkeypatch.context() as context:
        context.setattr("serve.model_preparer.sys.executable", program_that_chooses_pages(tmp_path))
        await preparer.prepare(asked)
        free = os.dup(0)  # the lowest there is
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            with pytest.raises(ArtifactError, match=r"model tiny: .* too many files may be open"):
                await preparer.prepare(asked)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with monkeypatch.context() as refusing:
            refusing.setattr("inference.fused.page_file._map_page", _refuse)
            with pytest.raises(ArtifactError, match=r"model tiny: .* cannot be mapped: Cannot allocate"):
                await preparer.prepare(asked)
        assert open_page_files() == 0
        assert (await preparer.prepare(asked))[0].description["pages"] == "chosen"


async def test_weights_on_too_few_pages_are_refused(
    preparer: ModelPreparer, asked: PreparationRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = program_that_chooses_pages(tmp_path, leaves_out=1)
    monkeypatch.setattr("serve.model_preparer.sys.executable", program)
    with pytest.raises(ArtifactError, match=r"model tiny: .* pages, too few for \d+ words"):
        await preparer.prepare(asked)
    assert open_page_files() == mapped_pages() == 0


async def test_a_descriptor_with_half_an_answer_is_closed(
    preparer: ModelPreparer, asked: PreparationRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (
        "import socket; from inference.fused.page_file import PageFile; file = PageFile(1);"
        "channel = socket.socket(fileno=0); socket.send_fds(channel, [b'12'], [file.descriptor]);"
        "channel.shutdown(socket.SHUT_WR); channel.recv(10_000)"
    )
    program = program_that(tmp_path, f"exec '{sys.executable}' -P -c \"{source}\"")
    monkeypatch.setattr("serve.model_preparer.sys.executable", program)
    with pytest.raises(ArtifactError, match="model tiny: the process that makes it ready ended with code 0"):
        await preparer.prepare(asked)
    assert open_page_files() == 0


def _refuse(descriptor: int, page: int, address: int) -> None:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


async def test_the_process_and_its_threads_run_when_nobody_else_wants_a_core(
    preparer: ModelPreparer, asked: PreparationRequest
) -> None:
    await preparer.prepare(asked)
    for thread in Path(f"/proc/{pid(preparer)}/task").iterdir():
        assert os.sched_getscheduler(int(thread.name)) == os.SCHED_IDLE


async def test_refusals_come_across_as_what_they_are(
    preparer: ModelPreparer, asked: PreparationRequest
) -> None:
    with pytest.raises(ArtifactError, match="absent"):
        await preparer.prepare(msgspec.structs.replace(asked, model="absent"))
    with pytest.raises(InputError, match="engine: 'none' came"):
        await preparer.prepare(msgspec.structs.replace(asked, engine="none"))
    assert (await preparer.prepare(asked))[0].artifact.name == "tiny"


async def test_a_process_that_was_killed_in_between_is_replaced(
    preparer: ModelPreparer, asked: PreparationRequest
) -> None:
    await preparer.prepare(asked)
    child = pid(preparer)
    os.kill(child, signal.SIGKILL)
    assert (await preparer.prepare(asked))[0].artifact.name == "tiny"
    assert pid(preparer) != child


async def test_a_process_that_is_killed_over_a_model_is_replaced_once(
    preparer: ModelPreparer, asked: PreparationRequest
) -> None:
    await preparer.prepare(asked)
    child = pid(preparer)
    asking = await begin(preparer, asked)
    os.kill(child, signal.SIGKILL)
    assert (await asking)[0].artifact.name == "tiny"
    assert pid(preparer) != child


HALF = rb"""printf '\377\000\000\000{"type":"prepared","directory":"/hal'"""


@pytest.mark.parametrize("said", ["", HALF.decode()])
async def test_a_process_that_ends_over_a_model_again_costs_that_model_alone(
    preparer: ModelPreparer,
    asked: PreparationRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
) -> None:
    program = program_that(tmp_path, f"echo once >> $0.runs\n{said}\necho went wrong >&2\nexit 3")
    with monkeypatch.context() as context:
        context.setattr("serve.model_preparer.sys.executable", program)
        with pytest.raises(
            ArtifactError, match="model tiny: the process that makes it ready ended with code 3: went wrong"
        ):
            await preparer.prepare(asked)
    assert (tmp_path / "python.runs").read_text() == "once\nonce\n"
    assert (await preparer.prepare(asked))[0].artifact.name == "tiny"


NO_TEXT = r"""\057\000\000\000{"type":"refused","fault":"input","reason":"\377"}"""


@pytest.mark.parametrize("said", [r"Traceback is what\0\0\0", r"\002\000\000\000{]", NO_TEXT])
async def test_a_process_whose_answer_cannot_be_read_is_killed(
    preparer: ModelPreparer,
    asked: PreparationRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
) -> None:
    program = program_that(tmp_path, f"printf '{said}'\nexec sleep 1000")
    monkeypatch.setattr("serve.model_preparer.sys.executable", program)
    with pytest.raises(
        ArtifactError, match="model tiny: the process that makes it ready was ended by signal 9"
    ):
        await preparer.prepare(asked)


async def test_a_process_that_cannot_be_started_costs_that_model_alone(
    preparer: ModelPreparer, asked: PreparationRequest
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)  # the lowest there is
    os.close(free)
    for left in range(5):  # of those for its errors, the channel and what `subprocess` opens itself
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + left, hard))
        try:
            with pytest.raises(
                ArtifactError, match="model tiny: the process that makes it ready cannot be started: Too many"
            ):
                await preparer.prepare(asked)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert os.dup(0) == free, "a descriptor was left open"
    os.close(free)
    assert (await preparer.prepare(asked))[0].artifact.name == "tiny"


async def test_a_process_that_must_not_give_way_makes_models_ready_all_the_same(
    preparer: ModelPreparer, asked: PreparationRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("serve.model_preparer.let_give_way", refuse)
    assert (await preparer.prepare(asked))[0].artifact.name == "tiny"


async def test_what_takes_too_long_is_given_up(asked: PreparationRequest) -> None:
    hasty = ModelPreparer(Turns(), timeout_s=0.01)
    with pytest.raises(ArtifactError, match="was ended by signal 9, for taking too long"):
        await hasty.prepare(asked)
    await hasty.close()


async def give_up(asking: "Task[tuple[Preparation, Words]]") -> None:
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_an_answer_that_nobody_waits_for_any_more_is_not_the_next_ones(
    preparer: ModelPreparer, asked: PreparationRequest
) -> None:
    await preparer.prepare(asked)
    child = pid(preparer)
    asking = await begin(preparer, msgspec.structs.replace(asked, engine="ort-step"))
    await give_up(asking)
    preparation, _ = await preparer.prepare(asked)
    assert preparation.description["engine"] == "fused"
    assert pid(preparer) != child


async def test_an_answer_that_has_come_when_it_is_given_up_is_not_the_next_ones(
    preparer: ModelPreparer, asked: PreparationRequest
) -> None:
    await preparer.prepare(asked)
    child = pid(preparer)
    asking = await begin(preparer, msgspec.structs.replace(asked, engine="ort-step"))
    os.kill(child, signal.SIGCONT)
    assert preparer._worker is not None
    came = array.array("i", [0])
    with socket.socket(fileno=os.dup(preparer._worker._channel.fileno())) as channel:
        while not came[0]:
            time.sleep(0.001)  # the loop must not read it
            fcntl.ioctl(channel, termios.FIONREAD, came)
    await give_up(asking)
    preparation, _ = await preparer.prepare(asked)
    assert preparation.description["engine"] == "fused"
    assert pid(preparer) != child


async def test_closing_gives_up_what_is_under_way(preparer: ModelPreparer, asked: PreparationRequest) -> None:
    await preparer.prepare(asked)
    asking = await begin(preparer, asked)
    await preparer.close()
    with pytest.raises(ArtifactError, match="was ended by signal 9"):
        await asking
    with pytest.raises(ArtifactError, match="nothing is made ready any more"):
        await preparer.prepare(asked)


async def test_closing_gives_up_what_waits_for_a_process_to_be_started(
    preparer: ModelPreparer, asked: PreparationRequest
) -> None:
    asking = asyncio.create_task(preparer.prepare(asked))
    await asyncio.sleep(0)
    assert preparer._worker is None
    await preparer.close()
    with pytest.raises(ArtifactError, match="nothing is made ready any more"):
        await asking


async def test_the_process_does_not_know_the_token(
    preparer: ModelPreparer, asked: PreparationRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "a-token-of-this-test")
    await preparer.prepare(asked)
    environment = Path(f"/proc/{pid(preparer)}/environ").read_bytes()
    assert b"PATH=" in environment
    assert b"a-token-of-this-test" not in environment


async def test_our_code_runs_whatever_the_working_directory_holds(
    preparer: ModelPreparer, asked: PreparationRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "serve").mkdir()
    (tmp_path / "serve" / "__init__.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    assert (await preparer.prepare(asked))[0].artifact.name == "tiny"
