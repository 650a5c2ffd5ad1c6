"""The process in which models are made ready; its standard input and output are one socket, to the service.

A request is a line of JSON. An answer is the size of its JSON (SIZE_BYTES bytes, little-endian), that JSON,
and a model's packed weights as they lie in memory. Weights whose pages were chosen do not follow: the file in
memory that they lie in comes with the size (SCM_RIGHTS), and the JSON says on which pages. The process ends
when its input does, or when nothing was asked for a while: it holds as much memory as a service.
"""

import os
import select
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, Literal

import msgspec

from inference.fused.packed_model import PackedModel
from inference.preparation import Preparation, PreparationRequest, prepare
from lob.errors import ArtifactError, MambalobError

IDLE_S: Final = 60.0
SIZE_BYTES: Final = 4


class Refusal(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """A model that cannot serve, and why; `fault` is what was wrong, the artifact or what was asked."""

    fault: Literal["artifact", "input"]
    reason: str


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is meant for the service
    with socket.socket(fileno=os.dup(1)) as channel, suppress(ConnectionError):
        os.dup2(2, 1)  # whatever a library prints is no answer
        for line in requests(channel):
            send(channel, *answer_to(msgspec.json.decode(line, type=PreparationRequest)))


def requests(channel: socket.socket) -> Iterator[bytes]:
    """Lines that come, one at a time; ends where `channel` does, or where none comes for a while."""
    with channel.makefile("rb") as lines:
        while select.select([channel], [], [], IDLE_S)[0] and (line := lines.readline()):
            yield line


def send(channel: socket.socket, answer: Preparation | Refusal, packed: PackedModel | None) -> None:
    """An answer, and what was packed."""
    text = msgspec.json.encode(answer)
    size = len(text).to_bytes(SIZE_BYTES, "little")
    if packed is None or packed.pages is None:
        channel.sendall(size + text)
    else:
        socket.send_fds(channel, [size], [packed.pages.file.descriptor])
        channel.sendall(text)
    if packed is not None and packed.pages is None:
        channel.sendall(packed.words.data)


def answer_to(request: PreparationRequest) -> tuple[Preparation | Refusal, PackedModel | None]:
    """What came of a request; whatever is no fault of the model or the request is raised."""
    try:
        return prepare(request)
    except MambalobError as error:
        fault: Literal["artifact", "input"] = "artifact" if isinstance(error, ArtifactError) else "input"
        return Refusal(fault=fault, reason=str(error)), None


if __name__ == "__main__":
    main()
