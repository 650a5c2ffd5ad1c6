"""Bybit v5's public stream from the exchange's side: reading a client's requests, wording the answers.

Spot answers in slightly other words than linear and inverse. A request with one bad topic fails as a whole
and changes nothing. Source: Bybit API documentation v5, "Connect", and recorded answers of its servers.
"""

from dataclasses import dataclass

import msgspec

from serve.bybit_stream import SPOT_TOPICS_A_REQUEST, Category

MAXIMUM_ARGS_CHARACTERS = 21_000
"""Characters of all the topics of one connection together (Bybit API documentation v5, "Connect")."""


class Request(msgspec.Struct):
    """What a client asks: `op` on the topics `args`; `req_id` comes back in the answer."""

    op: str
    req_id: str = ""
    args: list[str] = msgspec.field(default_factory=list)


class _Answer(msgspec.Struct):
    success: bool
    ret_msg: str
    conn_id: str
    req_id: str
    op: str


class _AnswerWithoutId(msgspec.Struct):
    success: bool
    ret_msg: str
    conn_id: str
    op: str


class RequestError(Exception):
    """A client's message is no request; its text is the answer's `ret_msg`."""


def read_request(message: str | bytes) -> Request:
    """The request in a client's message; raises RequestError."""
    try:
        return msgspec.json.decode(message, type=Request)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise RequestError(f"Failed to decode incoming data:{error}") from error


@dataclass(frozen=True, kw_only=True)
class Wording:
    """How one category's stream answers on one connection."""

    category: Category
    connection_id: str

    def done(self, request: Request) -> bytes:
        """A subscription or its end is accepted."""
        return self._answer(True, request.op if self.category == "spot" else "", request)

    def pong(self, request: Request) -> bytes:
        """The answer to a ping; its `op` stays "ping" on public streams."""
        return self._answer(True, "pong", request)

    def refused(self, reason: str, request: Request | None = None) -> bytes:
        """A request that changes nothing; None for a message that could not be read."""
        return self._answer(False, reason, request or Request(op=""))

    def unknown_topic(self, topic: str) -> str:
        """The reason given for a topic or symbol that is not served."""
        if self.category == "spot":
            return f"Invalid symbol :[{topic}]"
        return f"error:handler not found,topic:{topic}"

    def already_subscribed(self, topic: str) -> str:
        """The reason given for a topic that the connection has."""
        return f"error:already subscribed,topic:{topic}"

    def too_many_characters(self) -> str:
        """The reason given for more topics than a connection may have; Bybit's own words are not recorded."""
        return f"error:args length >{MAXIMUM_ARGS_CHARACTERS}"

    def rejected(self) -> str:
        """The reason given for a subscription that fails by an injected fault."""
        return "error:internal error,injected fault"

    def bad_args(self, request: Request) -> str | None:
        """The reason given for a request with no topics or too many; None where their number is right."""
        if not request.args:
            return "Params Error"
        if self.category == "spot" and len(request.args) > SPOT_TOPICS_A_REQUEST:
            return f"args size >{SPOT_TOPICS_A_REQUEST}"
        return None

    def _answer(self, success: bool, message: str, request: Request) -> bytes:
        if self.category == "spot" and not request.req_id:
            return msgspec.json.encode(_AnswerWithoutId(success, message, self.connection_id, request.op))
        return msgspec.json.encode(_Answer(success, message, self.connection_id, request.req_id, request.op))


INVALID_OPERATION = "error:invalid op"
"""The reason given for an operation that the stream does not have."""
