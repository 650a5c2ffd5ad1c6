"""One HTTP GET request to an exchange: bounded, verified, and not through a proxy to this machine."""

import http.client
import urllib.error
import urllib.request

from serve.venue_connection import is_this_machine

MAXIMUM_ANSWER_BYTES = 1024 * 1024


class HttpError(Exception):
    """A request got no usable answer; the text says why, with the server as "it".

    `body` is the beginning of what came with a status that says no.
    """

    def __init__(self, reason: str, body: bytes = b"") -> None:
        super().__init__(reason)
        self.body = body


def http_get(url: str, *, timeout_s: float, maximum_bytes: int = MAXIMUM_ANSWER_BYTES) -> bytes:
    """The body of the answer; blocks. Raises HttpError."""
    # The proxy of the environment, except for an address of this machine.
    proxies = urllib.request.ProxyHandler({} if is_this_machine(url) else None)
    opener = urllib.request.build_opener(proxies)
    try:
        with opener.open(url, timeout=timeout_s) as response:
            body: bytes = response.read(maximum_bytes + 1)
    except urllib.error.HTTPError as error:
        with error:
            raise HttpError(f"it answers HTTP {error.code}", error.read(1_024)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = getattr(error, "reason", None) or error
        reason = getattr(cause, "strerror", None) or cause
        raise HttpError(f"it cannot be reached ({reason})") from error
    if len(body) > maximum_bytes:
        raise HttpError(f"its answer is above {maximum_bytes} bytes")
    return body
