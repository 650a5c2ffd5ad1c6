"""One file over HTTP, begun again where it broke off, however often the connection is lost."""

import http.client
import logging
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from lob.errors import CaptureError, InputError
from serve.reconnect import ReconnectPolicy
from serve.venue_connection import is_this_machine

logger = logging.getLogger(__name__)

READ_BYTES = 1 << 16
PROGRESS_BYTES = 1 << 16
"""An attempt that brings so much starts the count of failures again."""

_FINAL = frozenset({400, 401, 403, 405, 410, 451})


class NotThereError(InputError):
    """The server does not have the file."""


class _LostError(Exception):
    """This attempt is over, and another may do better."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


@dataclass(frozen=True, kw_only=True)
class DownloadPolicy:
    """How long to wait for a server, and how often to try again without any progress between."""

    timeout_s: float = 30.0
    longest_retry_after_s: float = 60.0
    """As much of the server's own `Retry-After` as is obeyed."""
    retry: ReconnectPolicy = field(default_factory=lambda: ReconnectPolicy(initial_s=1.0, attempts=6))

    def __post_init__(self) -> None:
        if not self.timeout_s > 0:
            raise InputError(f"timeout_s: {self.timeout_s} came, above 0 is allowed")
        if self.retry.attempts is None:
            raise InputError("retry: a number of attempts is needed; a download does not go on for ever")


@dataclass(kw_only=True)
class DownloadCounters:
    """What a download took; `resumed_bytes` were there from an earlier one."""

    requests: int = 0
    resumed_bytes: int = 0
    received_bytes: int = 0


class Download:
    """The file at `url`, on its way to `part`, which may hold its beginning from an earlier run."""

    def __init__(self, url: str, part: Path, policy: DownloadPolicy, random: Random | None = None) -> None:
        self.counters = DownloadCounters()
        self._url = url
        self._part = part
        self._policy = policy
        self._random = random or Random()  # noqa: S311  # jitter, no secret
        self._validator = ""  # the server's mark of this version of the file
        # The proxy of the environment, except for an address of this machine.
        proxies = urllib.request.ProxyHandler({} if is_this_machine(url) else None)
        self._opener = urllib.request.build_opener(proxies)

    def run(self) -> None:
        """Return once `part` is the whole file, as far as the server says how long it is.

        Raises NotThereError, CaptureError where the server refuses for good, the attempts are used up or the
        disk refuses; `part` keeps what came.
        """
        self.counters.resumed_bytes = max(self.counters.resumed_bytes, self._present_bytes())
        failures = 0
        while True:
            before_bytes = self._present_bytes()
            try:
                self._attempt()
            except _LostError as lost:
                if self._present_bytes() >= before_bytes + PROGRESS_BYTES:
                    failures = 0
                if self._policy.retry.gives_up_after(failures + 1):
                    raise CaptureError(
                        f"{self._url}: given up after {failures + 1} attempts without progress: {lost}; "
                        f"{self._present_bytes():,} bytes are kept, the same command goes on from there"
                    ) from lost
                delay_s = max(lost.wait_s, self._policy.retry.delay_s(failures, self._random))
                failures += 1
                logger.warning("%s: %s; trying again in %.1f s", self._url, lost, delay_s)
                time.sleep(delay_s)
            else:
                return

    def _attempt(self) -> None:
        """One request; raises _LostError where it did not bring the file to its end."""
        offset = self._present_bytes()
        headers = {"Accept-Encoding": "identity", "User-Agent": "mambalob"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if self._validator:
                headers["If-Range"] = self._validator
        self.counters.requests += 1
        request = urllib.request.Request(self._url, headers=headers)  # noqa: S310  # checked: HTTP or HTTPS
        try:
            with self._opener.open(request, timeout=self._policy.timeout_s) as response:
                self._take(response, offset)
        except urllib.error.HTTPError as error:
            with error:
                self._on_refusal(error, offset)
        except (OSError, http.client.HTTPException) as error:
            cause = getattr(error, "reason", None) or error
            raise _LostError(f"{getattr(cause, 'strerror', None) or cause}") from error

    def _take(self, response: http.client.HTTPResponse, offset: int) -> None:
        """Append what the server sends, or begin again where it sends all."""
        total = _integer(response.headers.get("Content-Length"))
        resumes = False
        if response.status == 206:
            first, total = _content_range(response.headers.get("Content-Range", ""))
            if first != offset:
                self._forget()
                raise _LostError(f"bytes from {offset} on were asked for, from {first} on came")
            resumes = True
        self._validator = response.headers.get("ETag", "")
        if self._validator.startswith("W/"):
            self._validator = ""  # a weak one does not vouch for the bytes
        written = offset if resumes else 0
        if not resumes:
            self._forget()
        while piece := response.read(READ_BYTES):
            self._append(piece)
            written += len(piece)
            self.counters.received_bytes += len(piece)
        if total is not None and written < total:
            raise _LostError(f"the connection ended after {written:,} of {total:,} bytes")

    def _on_refusal(self, error: urllib.error.HTTPError, offset: int) -> None:
        """Act on an answer that is none; returns where the file is whole already."""
        if error.code == 404:
            raise NotThereError(f"{self._url}: the server does not have it") from error
        if error.code == 416:  # nothing from there on: it is whole, or another file than before
            _, total = _content_range(error.headers.get("Content-Range", ""))
            if total == offset:
                return
            self._forget()
            raise _LostError(f"{offset:,} bytes are there, and the server's file has {total}")
        if error.code in _FINAL:
            raise CaptureError(f"{self._url}: the server refuses it (HTTP {error.code})") from error
        retry_after_s = _integer(error.headers.get("Retry-After")) or 0
        wait_s = min(float(retry_after_s), self._policy.longest_retry_after_s)
        raise _LostError(f"the server answers HTTP {error.code}", wait_s) from error

    def _present_bytes(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _append(self, piece: bytes) -> None:
        try:
            with self._part.open("ab") as file:
                file.write(piece)
        except OSError as error:
            raise CaptureError(f"{self._part}: cannot be written ({error.strerror})") from error

    def _forget(self) -> None:
        self._part.unlink(missing_ok=True)


def _integer(text: str | None) -> int | None:
    """A header's whole number; None where it is none."""
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _content_range(text: str) -> tuple[int | None, int | None]:
    """(first byte, size of the file) of `bytes 5-9/10` or `bytes */10`; None for what it does not say."""
    unit, _, rest = text.partition(" ")
    span, _, total = rest.partition("/")
    return (_integer(span.partition("-")[0]), _integer(total)) if unit == "bytes" else (None, None)
