"""The process in which models are made ready: requests on its standard input, answers on its standard output.

Both are JSON, one object a line; a model's packed weights follow its line as they lie in memory. The process
gives way to whoever serves, and ends when its input does, or when nothing was asked for a while: it holds as
much memory as a service.
"""

import os
import queue
import signal
import threading
from typing import Final, Literal

import msgspec

from inference.preparation import Preparation, PreparationRequest, prepare
from lob.errors import ArtifactError, MambalobError

IDLE_S: Final = 60.0
LOWEST_PRIORITY: Final = 19


class Refusal(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """A model that cannot serve, and why; `fault` is what was wrong, the artifact or what was asked."""

    fault: Literal["artifact", "input"]
    reason: str


def main() -> None:
    """Answer requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is meant for the service
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    _give_way()
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    while line := _next(requests):
        answer, words = answer_to(msgspec.json.decode(line, type=PreparationRequest))
        answers.write(msgspec.json.encode(answer) + b"\n")
        answers.write(words)
        answers.flush()


def answer_to(request: PreparationRequest) -> tuple[Preparation | Refusal, bytes]:
    """What came of a request; whatever is no fault of the model or the request is raised."""
    try:
        preparation, words = prepare(request)
    except MambalobError as error:
        fault: Literal["artifact", "input"] = "artifact" if isinstance(error, ArtifactError) else "input"
        return Refusal(fault=fault, reason=str(error)), b""
    return preparation, words.tobytes()


def _read(requests: "queue.SimpleQueue[bytes]") -> None:
    with os.fdopen(0, "rb", buffering=0) as lines:  # a buffer would be locked by this thread at the end
        for line in lines:
            requests.put(line)
    requests.put(b"")


def _next(requests: "queue.SimpleQueue[bytes]") -> bytes:
    """The next request; nothing once there are no more, or none came for a while."""
    try:
        return requests.get(timeout=IDLE_S)
    except queue.Empty:
        return b""


def _give_way() -> None:
    """Run when nobody else wants a core."""
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    elif hasattr(os, "nice"):
        os.nice(LOWEST_PRIORITY)


if __name__ == "__main__":
    main()
