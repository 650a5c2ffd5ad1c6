"""Models made ready in a process of their own, so that ticks lose neither interpreter nor core to a load.

The process (`serve.preparation_worker`) is started when there is something to prepare and ends by itself when
there is nothing for a while. One that crashes on a model costs that model, and nothing else. It is asked
and heard on the event loop, a fraction of a millisecond a turn: a thread that did so would hold the
interpreter's lock now and then, and a tick would wait for it as long as the system leaves it without a core.
"""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import IO, Final, Self

import msgspec
import numpy as np

from inference.fused.packing import PAGE_BYTES
from inference.fused.page_file import PageMapping
from inference.preparation import Preparation, PreparationRequest, Words
from lob.errors import ArtifactError, InputError
from serve.admin_access import TOKEN_VARIABLE
from serve.preparation_worker import SIZE_BYTES, Refusal
from serve.process_scheduling import keep_on, let_give_way, spare_cores, threads_of
from serve.turns import Turns

TIMEOUT_S: Final = 300.0
"""A model of unknown sizes has its kernels compiled first, which takes a minute on a busy machine."""
ATTEMPTS: Final = 2
"""A process may be at its end when it is asked, for want of work say; a second one is not."""
END_S: Final = 5.0
"""How long a process that answers no more may take to end by itself."""
END_POLL_S: Final = 0.005
ANSWER_BYTES: Final = 16 * 1024 * 1024
"""More than any answer has besides its packed weights."""
RECEIVED_A_TURN: Final = 64 * 1024
"""Bytes, for memory that was not touched before: some 0.05 ms. As many as come would take a millisecond."""
PAGES_A_TURN: Final = 16
"""Mapped where the weights lie in a file: some 0.1 ms."""
WORD_BYTES: Final = 4
DESCRIPTOR_BYTES: Final = 4
_LAST_WORDS_BYTES: Final = 2_000

_KEPT_FROM_CHILDREN: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

_answers = msgspec.json.Decoder(Preparation | Refusal)
_errors_by_fault = {"artifact": ArtifactError, "input": InputError}
_NO_WORDS: Words = np.empty(0, np.float32)


class ModelPreparer:
    """Prepares models, one at a time, on the event loop in `turns`."""

    def __init__(self, turns: Turns, timeout_s: float = TIMEOUT_S) -> None:
        self._turns = turns
        self._timeout_s = timeout_s
        self._worker: Worker | None = None
        self._closed = False
        self._asking = asyncio.Lock()

    async def prepare(self, request: PreparationRequest) -> tuple[Preparation, Words]:
        """Have a model made ready. Answers what `inference.preparation.take` takes.

        Raises ArtifactError and InputError as `inference.preparation.prepare`, and ArtifactError where the
        process cannot be started, or does not come to an answer, or not in time, and where what it answers
        cannot be taken over.
        """
        line = msgspec.json.encode(request) + b"\n"
        reason = "nothing is made ready any more"
        async with self._asking:
            for _ in range(ATTEMPTS):
                if self._closed:
                    break
                try:
                    worker = await self._running_worker()
                except OSError as error:  # no descriptor, memory or folder for temporary files is left
                    reason = f"the process that makes it ready cannot be started: {error.strerror or error}"
                    break
                if worker is None:
                    break
                await self._turns.give_way()
                answer, words = await worker.ask(line, self._timeout_s)
                if isinstance(answer, Preparation):
                    return answer, words
                if answer is not None:
                    raise _errors_by_fault[answer.fault](answer.reason)
                reason = await worker.last_words()
                if worker.took_too_long:
                    break
        raise ArtifactError(f"model {request.model}: {reason}")

    async def close(self) -> None:
        """End the process, whatever it is at; nothing is prepared any more."""
        self._closed = True
        if self._worker is not None:
            self._worker.process.kill()  # whoever waits for its answer waits no longer
        async with self._asking:
            if self._worker is not None:
                await self._worker.close()

    async def _running_worker(self) -> "Worker | None":
        """The process to ask, started where there is none; None where this was closed meanwhile."""
        if self._worker is None or self._worker.has_ended():
            if self._worker is not None:
                await self._worker.close()
            self._worker = await Worker.start(self._turns)
            await self._turns.give_way()
        return None if self._closed else self._worker


class Worker:
    """One process that makes models ready."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        channel: socket.socket,
        errors: IO[bytes],
        opened: ExitStack,
        turns: Turns,
    ) -> None:
        self.process = process
        self.took_too_long = False
        """Whether it was killed for that."""
        self._given_up = False
        self._cores: frozenset[int] = frozenset()
        """Where its threads were told to run last; those that they have started since run there as well."""
        self._channel = channel
        self._errors = errors
        self._opened = opened
        self._turns = turns

    @classmethod
    async def start(cls, turns: Turns) -> Self:
        """Start one; raises OSError where that cannot be done."""
        with ExitStack() as opened:
            errors = opened.enter_context(tempfile.TemporaryFile())
            await turns.give_way()
            channel, its_end = socket.socketpair()
            opened.enter_context(channel)
            channel.setblocking(False)
            with its_end:
                # Not the event loop's own: uvloop's forks, which copies this process's page tables and takes
                # milliseconds of a turn.
                process = subprocess.Popen(
                    # -P, or a folder `serve` or `lob` of the working directory would be run instead of ours
                    (sys.executable, "-P", "-m", "serve.preparation_worker"),
                    stdin=its_end.fileno(),
                    stdout=its_end.fileno(),
                    stderr=errors,
                    env={name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE},
                )
            # While it is one thread: numpy's import starts more, and they inherit this.
            with suppress(OSError):  # it has ended already, or the system does not allow it
                let_give_way(process.pid)
            return cls(process, channel, errors, opened.pop_all(), turns)

    def has_ended(self) -> bool:
        """Whether it cannot be asked any more."""
        return self._given_up or self.process.poll() is not None

    async def ask(self, line: bytes, timeout_s: float) -> tuple[Preparation | Refusal | None, Words]:
        """What answers `line`, and the packed weights with it; None where the process ended or was killed.

        It is killed where the answer takes longer than `timeout_s` or cannot be read, and where the caller is
        cancelled: what came after that would be taken for the answer to the next request.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._ask(line)
        except TimeoutError:
            self.took_too_long = True
            self.process.kill()
        except (EOFError, ConnectionError):
            pass
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self.process.kill()
        except BaseException:  # or what is left of its answer would begin the next one's
            self._given_up = True  # its end may be seen only after the next request
            self.process.kill()
            raise
        return None, _NO_WORDS

    async def _ask(self, line: bytes) -> tuple[Preparation | Refusal, Words]:
        await self._leave_cores()
        await self._turns.give_way()
        await asyncio.get_running_loop().sock_sendall(self._channel, line)
        with ExitStack() as came:
            size = bytearray(SIZE_BYTES)
            descriptors = await self._receive_first(size, came)
            text = bytearray(_answer_bytes(size))
            await self._receive(memoryview(text))
            answer = _answers.decode(text)
            if isinstance(answer, Refusal):
                return answer, _NO_WORDS
            await self._turns.give_way()
            if answer.pages:
                return answer, await self._mapped(answer, descriptors)
            words = answer.room()
            await self._receive(words.view(np.uint8).data)
            return answer, words

    async def _leave_cores(self) -> None:
        """Have it run where this process needs no core, one of its threads a turn."""
        cores = spare_cores()
        if not cores or cores == self._cores:
            return
        for thread in threads_of(self.process.pid):
            await self._turns.give_way()
            keep_on(thread, cores)
        self._cores = cores

    async def _receive_first(self, room: bytearray, opened: ExitStack) -> list[int]:
        """Fill `room` with what an answer begins with; the descriptors that come with it.

        `opened` closes them. Raises EOFError where the process ends before.
        """
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._channel, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._channel)
        came, ancillary, _, _ = self._channel.recvmsg(
            len(room), socket.CMSG_SPACE(DESCRIPTOR_BYTES), _KEPT_FROM_CHILDREN
        )
        descriptors = array("i")
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(content)
        for descriptor in descriptors:
            opened.callback(os.close, descriptor)
        if len(came) < len(room):  # it is sent at once
            raise EOFError
        room[:] = came
        return descriptors.tolist()

    async def _mapped(self, answer: Preparation, descriptors: Sequence[int]) -> Words:
        """The weights of `answer` on their pages; raises ArtifactError where they cannot be mapped here."""
        memory = f"model {answer.manifest.name}: the memory of its weights"
        if not descriptors:  # the system drops what it has no number for
            raise ArtifactError(f"{memory} did not come; too many files may be open")
        if len(answer.pages) * PAGE_BYTES < answer.word_count * WORD_BYTES:
            raise ArtifactError(
                f"{memory} has {len(answer.pages)} pages, too few for {answer.word_count} words"
            )
        try:
            mapping = PageMapping(descriptors[0], answer.pages)
            while mapping.map_next(PAGES_A_TURN):
                await self._turns.give_way()
        except OSError as error:
            raise ArtifactError(f"{memory} cannot be mapped: {error.strerror}") from error
        return mapping.words[: answer.word_count]

    async def _receive(self, room: memoryview) -> None:
        """Fill `room`, of bytes; raises EOFError where the process ends before."""
        loop = asyncio.get_running_loop()
        while room:
            count = await loop.sock_recv_into(self._channel, room[:RECEIVED_A_TURN])
            if not count:
                raise EOFError
            room = room[count:]
            await self._turns.give_way()

    async def last_words(self) -> str:
        """Wait for its end; how it came about, and what the process said last."""
        code, errors = await self._end(), self._errors
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - _LAST_WORDS_BYTES))
        words = " | ".join(errors.read().decode(errors="replace").splitlines())
        ended = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        late = ", for taking too long: this machine has no time to spare" if self.took_too_long else ""
        return f"the process that makes it ready {ended}{late}{': ' if words else ''}{words}"

    async def close(self) -> None:
        """Have it end, and close what is open."""
        self.process.kill()
        await self._end()
        self._opened.close()

    async def _end(self) -> int:
        """Its exit status, once it has ended."""
        patient_until = time.monotonic() + END_S
        while (code := self.process.poll()) is None:
            if time.monotonic() > patient_until:
                self.process.kill()
            await asyncio.sleep(END_POLL_S)
        return code


def _answer_bytes(size: bytearray) -> int:
    count = int.from_bytes(size, "little")
    if count > ANSWER_BYTES:
        raise msgspec.DecodeError(f"an answer of {count} bytes came, {ANSWER_BYTES} are allowed")
    return count
