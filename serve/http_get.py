"""One HTTP GET request to an exchange: bounded, verified, and not through a proxy to this machine."""

import http.client
import math
import socket
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from functools import partial
from typing import Any

from serve.venue_connection import is_this_machine

MAXIMUM_ANSWER_BYTES = 1024 * 1024


class HttpError(Exception):
    """A request got no usable answer; the text says why, with the server as "it".

    `status` and `body`, its beginning, are of an answer that says no; `retry_after_s` is how long it asks to
    be left alone, None where it does not say.
    """

    def __init__(
        self,
        reason: str,
        body: bytes = b"",
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.body = body
        self.status = status
        self.retry_after_s = retry_after_s


def http_get(url: str, *, timeout_s: float, maximum_bytes: int = MAXIMUM_ANSWER_BYTES) -> bytes:
    """The body of the answer, which has `timeout_s` to come whole; blocks. Raises HttpError.

    A redirection is no answer: no exchange documents one, and it could lead anywhere.
    """
    deadline = _Deadline(timeout_s)
    # The proxy of the environment, except for an address of this machine.
    proxies = urllib.request.ProxyHandler({} if is_this_machine(url) else None)
    opener = urllib.request.build_opener(proxies, _Http(deadline), _Https(deadline), _NoRedirect())
    try:
        with opener.open(url, timeout=timeout_s) as response:
            promised = response.length  # None where the server does not say
            body: bytes = response.read(maximum_bytes + 1)
    except urllib.error.HTTPError as error:
        with error, suppress(OSError, http.client.HTTPException):
            body = error.read(1_024)
            raise HttpError(
                f"it answers HTTP {error.code}",
                body,
                status=error.code,
                retry_after_s=_seconds(error.headers.get("Retry-After")),
            ) from error
        raise HttpError(f"it answers HTTP {error.code}", status=error.code) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        if deadline.passed:
            raise HttpError(f"it did not answer in {timeout_s:g} s") from error
        cause = getattr(error, "reason", None) or error
        reason = getattr(cause, "strerror", None) or cause
        raise HttpError(f"it cannot be reached ({reason})") from error
    finally:
        deadline.lift()
    if deadline.passed:
        raise HttpError(f"its answer did not come whole in {timeout_s:g} s")
    if len(body) > maximum_bytes:
        raise HttpError(f"its answer is above {maximum_bytes} bytes")
    if promised is not None and len(body) < promised:  # which a bounded read does not say
        raise HttpError(f"its answer broke off after {len(body)} of {promised} bytes")
    return body


def _seconds(header: str | None) -> float | None:
    """The seconds in a Retry-After header; None where there is none, or a date, which is not taken."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < math.inf else None


class _Deadline:
    """Cuts a request's connection when its time is up: a socket's own time-out starts anew with each byte."""

    def __init__(self, timeout_s: float) -> None:
        self.passed = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(timeout_s, self._cut)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, connected: socket.socket) -> None:
        """Raises TimeoutError where the time is up already."""
        self._socket = connected
        if self.passed:
            raise TimeoutError

    def lift(self) -> None:
        self._timer.cancel()

    def _cut(self) -> None:
        self.passed = True
        if self._socket is not None:
            with suppress(OSError):
                # Below TLS, whose state belongs to the thread that reads.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _HttpConnection(http.client.HTTPConnection):
    def __init__(self, deadline: _Deadline, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadline = deadline

    def connect(self) -> None:
        super().connect()
        self._deadline.watch(self.sock)


class _HttpsConnection(http.client.HTTPSConnection):
    def __init__(self, deadline: _Deadline, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadline = deadline

    def connect(self) -> None:
        super().connect()
        self._deadline.watch(self.sock)


class _Http(urllib.request.HTTPHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_HttpConnection, self._deadline), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_HttpsConnection, self._deadline), req)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """None: the redirection is taken for the answer, and it says no."""
