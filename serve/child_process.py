"""One of the product's own commands in a child process, started, heard and always brought to its end.

A child ends with its parent whatever ends the parent: its standard input is a pipe that only the parent
holds, and the end of that pipe is the child's order to stop.
"""

import asyncio
import os
import runpy
import signal
import sys
import threading
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import msgspec

from lob.errors import MambalobError

STOP_TIMEOUT_S = 5.0
LAST_LINES = 20


class ChildError(MambalobError):
    """A child process did not come up, or ended when it should not have."""


class ChildProcess:
    """`mambalob COMMAND ARGUMENTS... --json` as a child; leaving the context ends it.

    The command says on its first line of output, as JSON, where it listens; that object is `report`.
    """

    def __init__(self, command: str, *arguments: str) -> None:
        self.command = command
        self.report: dict[str, Any] = {}
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None
        self._drain: asyncio.Task[None] | None = None
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)

    async def start(self, timeout_s: float) -> None:
        """Start the command and wait for its report; raises ChildError with its last words if none comes."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # or a folder `serve` or `lob` of the working directory would be run instead of ours
            *("-m", "serve.child_process", self.command, *self._arguments, "--json"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None, "the child's output is a pipe"
        self._drain = asyncio.create_task(self._keep_last_lines(), name=f"{self.command}-errors")
        try:
            async with asyncio.timeout(timeout_s):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise self.error(f"did not come up within {timeout_s:g} s") from None
        if not line:
            await self._process.wait()
            await self._drain
            raise self.error(f"ended with code {self._process.returncode} before it came up")
        try:
            self.report = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self.error(f"said {line[:80]!r} where it should say where it listens") from None

    async def ended(self) -> int:
        """Wait for the process to end; answers its exit code."""
        assert self._process is not None, "the child has been started"
        return await self._process.wait()

    def error(self, reason: str) -> ChildError:
        """An error that names the command, the reason and the command's last words."""
        words = " | ".join(self._last_lines)
        return ChildError(f"mambalob {self.command} {reason}{': ' if words else ''}{words}")

    async def stop(self) -> None:
        """End the process in good order, or at once where that takes too long; does nothing a second time."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._drain is not None:
            await self._drain

    async def _keep_last_lines(self) -> None:
        """Read what the child writes to stderr, so that it never waits for a reader."""
        assert self._process is not None, "the child has been started"
        assert self._process.stderr is not None, "the child's errors are a pipe"
        async for line in self._process.stderr:
            self._last_lines.append(line.decode(errors="replace").rstrip())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        stopping = asyncio.create_task(self.stop(), name=f"{self.command}-stop")
        while not stopping.done():  # a second Ctrl-C must not leave the child behind; the wait is bounded
            with suppress(asyncio.CancelledError):
                await asyncio.shield(stopping)
        stopping.result()


def _stop_with_parent() -> None:
    """Wait for the end of standard input, then ask this process to stop as Ctrl-C would."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_stop_with_parent, name="parent-watch", daemon=True).start()
    runpy.run_module("mambalob", run_name="__main__", alter_sys=True)
