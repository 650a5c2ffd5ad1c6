"""Who may change the models of a running service: whoever has the token, and not too often.

There are no admin routes without a token, and it comes from a file or from the environment: what stands on a
command line is in every list of processes.
"""

import hashlib
import hmac
import os
from collections.abc import Callable
from pathlib import Path

from lob.errors import InputError
from serve.stream import RequestBudget, StreamLimits

TOKEN_VARIABLE = "MAMBALOB_ADMIN_TOKEN"  # noqa: S105  # the variable's name
SHORTEST_TOKEN = 16
LONGEST_TOKEN = 1_024

LIMITS = StreamLimits(request_burst=20, requests_per_s=2.0)
"""Requests with the token, and apart from them those without."""


class AdminToken:
    """A token, kept as its digest, so that it stands in no object, log or traceback."""

    def __init__(self, token: str) -> None:
        """Raises InputError, without the token in its text, where it is too short, too long or no text."""
        if not SHORTEST_TOKEN <= len(token) <= LONGEST_TOKEN:
            raise InputError(
                f"admin token: {len(token)} characters came; {SHORTEST_TOKEN} to {LONGEST_TOKEN} are allowed"
            )
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise InputError("admin token: printable ASCII characters without spaces are allowed")
        self._digest = hashlib.sha256(token.encode()).digest()

    def matches(self, authorization: str) -> bool:
        """Whether a header `Authorization: Bearer TOKEN` names this token; takes as long for any other."""
        scheme, _, token = authorization.partition(" ")
        came = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        return hmac.compare_digest(came, self._digest) and scheme.lower() == "bearer"


class AdminAccess:
    """Admits requests by token and rate. Wrong tokens use up a budget of their own, and nobody else's."""

    def __init__(self, token: AdminToken, now_s: Callable[[], float]) -> None:
        self.refused = 0
        self._token = token
        self._now_s = now_s
        self._requests = RequestBudget(LIMITS, now_s())
        self._wrong = RequestBudget(LIMITS, now_s())

    def status(self, authorization: str) -> int:
        """The HTTP status a request is to be answered with: 200 to go on, else 401, or 429 for too many."""
        if self._token.matches(authorization):
            return 200 if self._requests.spend(self._now_s()) else 429
        self.refused += 1
        return 401 if self._wrong.spend(self._now_s()) else 429


def find_token(path: Path | None) -> AdminToken | None:
    """The token in the file `path`, else in MAMBALOB_ADMIN_TOKEN; None where neither is given.

    Raises InputError where the file cannot be read, or the token is none.
    """
    if path is not None:
        return AdminToken(read_token(path))
    token = os.environ.get(TOKEN_VARIABLE)
    return None if not token else AdminToken(token)


def read_token(path: Path) -> str:
    """What stands in a token's file, without the end of its line; raises InputError where it cannot be."""
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST_TOKEN + 3)
        return content.decode("ascii").rstrip("\r\n")
    except OSError as error:
        raise InputError(f"admin token: {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise InputError(f"admin token: {path} holds other than ASCII characters") from None
