"""Models made ready in a process of their own, so that ticks lose neither interpreter nor core to a load.

The process (`serve.preparation_worker`) is started when there is something to prepare and ends by itself when
there is nothing for a while. One that crashes on a model costs that model, and nothing else.
"""

import os
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from io import BufferedReader
from typing import Final

import msgspec
import numpy as np

from inference.preparation import Preparation, PreparationRequest, Words
from lob.errors import ArtifactError, InputError
from serve.admin_access import TOKEN_VARIABLE
from serve.preparation_worker import Refusal
from serve.spare_cores import leave_spare_cores_to

TIMEOUT_S: Final = 300.0
"""A model of unknown sizes has its kernels compiled first, which takes a minute on a busy machine."""
ATTEMPTS: Final = 2
"""A process may be at its end when it is asked, for want of work say; a second one is not."""
END_S: Final = 1.0
"""It ends when told to, but within compiled code it does not listen."""
_LAST_WORDS_BYTES: Final = 2_000

_answers = msgspec.json.Decoder(Preparation | Refusal)
_errors_by_fault = {"artifact": ArtifactError, "input": InputError}
_NO_WORDS: Words = np.empty(0, np.float32)


class ModelPreparer:
    """Prepares one model at a time. `prepare` is called on one thread, `close` on any."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._worker: Worker | None = None
        self._closed = False
        self._asking = threading.Lock()

    def prepare(self, request: PreparationRequest) -> tuple[Preparation, Words]:
        """Have a model made ready; waits until it is. Answers what `inference.preparation.take` takes.

        Raises ArtifactError and InputError as `inference.preparation.prepare`, and ArtifactError where the
        process cannot be started, or does not come to an answer, or not in time.
        """
        line = msgspec.json.encode(request) + b"\n"
        reason = "nothing is made ready any more"
        with self._asking:
            for _ in range(ATTEMPTS):
                if self._closed:
                    break
                try:
                    worker = self._running_worker()
                except OSError as error:  # no descriptor, memory or folder for temporary files is left
                    reason = f"the process that makes it ready cannot be started: {error.strerror or error}"
                    break
                answer, words = worker.ask(line, self._timeout_s)
                if isinstance(answer, Preparation):
                    return answer, words
                if answer is not None:
                    raise _errors_by_fault[answer.fault](answer.reason)
                reason = worker.last_words()
                if worker.took_too_long:
                    break
        raise ArtifactError(f"model {request.model}: {reason}")

    def close(self) -> None:
        """End the process, whatever it is at; nothing is prepared any more."""
        self._closed = True
        if self._worker is not None:
            self._worker.end()
        with self._asking:
            if self._worker is not None:
                self._worker.close()

    def _running_worker(self) -> "Worker":
        if self._worker is None or self._worker.has_ended():
            if self._worker is not None:
                self._worker.close()
            self._worker = Worker()
            if self._closed:  # meanwhile, on another thread
                self._worker.end()
        return self._worker


class Worker:
    """One process that makes models ready; raises OSError where none can be started."""

    def __init__(self) -> None:
        self.took_too_long = False
        """Whether it was killed for that."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # it is to live as long as the process
        try:
            self.process = subprocess.Popen(
                # -P, or a folder `serve` or `lob` of the working directory would be run instead of ours
                (sys.executable, "-P", "-m", "serve.preparation_worker"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE},
            )
        except OSError:
            self._errors.close()
            raise

    def has_ended(self) -> bool:
        """Whether it cannot be asked any more."""
        return self.process.poll() is not None

    def ask(self, line: bytes, timeout_s: float) -> tuple[Preparation | Refusal | None, Words]:
        """What answers `line`; None where the process ended, or was killed after `timeout_s`."""
        alarm = threading.Timer(timeout_s, self._kill)
        alarm.start()
        try:
            return self._ask(line)
        except BrokenPipeError:
            return None, _NO_WORDS
        finally:
            alarm.cancel()

    def _ask(self, line: bytes) -> tuple[Preparation | Refusal | None, Words]:
        requests, answers = self.process.stdin, self.process.stdout
        assert requests is not None, "its input is a pipe"
        assert isinstance(answers, BufferedReader), "its output is a pipe"
        leave_spare_cores_to(self.process.pid)
        requests.write(line)
        requests.flush()
        answer = answers.readline()
        if not answer.endswith(b"\n"):  # it ended, in the middle of its answer where there is one
            return None, _NO_WORDS
        came = _answers.decode(answer)
        words = came.room() if isinstance(came, Preparation) else _NO_WORDS
        return came if answers.readinto(words.data) == words.nbytes else None, words

    def last_words(self) -> str:
        """Wait for its end; how it came about, and what the process said last."""
        code, errors = self.process.wait(), self._errors
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - _LAST_WORDS_BYTES))
        words = " | ".join(errors.read().decode(errors="replace").splitlines())
        ended = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        late = ", for taking too long: this machine has no time to spare" if self.took_too_long else ""
        return f"the process that makes it ready {ended}{late}{': ' if words else ''}{words}"

    def end(self) -> None:
        """Have it end now, on any thread."""
        self.process.terminate()
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def close(self) -> None:
        """Close what is open of a process that has ended."""
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self._errors):
            assert file is not None, "its input and output are pipes"
            with suppress(BrokenPipeError):
                file.close()

    def _kill(self) -> None:
        self.took_too_long = True
        self.process.kill()
