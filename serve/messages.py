"""The messages of `/v1/stream`, in both directions, and the text of each.

Requests and replies have the shape Bybit's v5 stream gave them: `{"op","req_id","args"}` and
`{"op","success","req_id","ret_msg","conn_id"}`. Pushes carry a topic, a type, and `seq`, which counts the
topic's messages of either type: a client sees `seq` = its last one + 1 + `missed`, where `missed` is absent
when nothing was left out.
"""

from typing import Literal, TypeAlias

import msgspec

from inference.prediction import Prediction
from lob.errors import InputError

OPERATIONS = ("subscribe", "unsubscribe", "ping")
TOPIC_PREFIX = "prediction."


class Request(msgspec.Struct):
    """What a client asks."""

    op: str
    req_id: str = ""
    args: list[str] = []


class Reply(msgspec.Struct):
    """The answer to one request; `ret_msg` is empty or says what came and what is allowed."""

    op: str
    success: bool
    req_id: str
    ret_msg: str
    conn_id: str


class StateData(msgspec.Struct, frozen=True):
    """The state of a symbol, a value of `lob.sync.SymbolState`, and why it holds."""

    state: str
    reason: str


class ModelData(msgspec.Struct, frozen=True, kw_only=True):
    """The model whose predictions follow from here on, and the one before it as `name@version`."""

    model: str
    model_version: str
    engine: str
    previous: str


class PredictionMessage(msgspec.Struct):
    """A prediction on its way out; `ts` is the wall clock in milliseconds when it was published."""

    topic: str
    type: Literal["prediction"]
    seq: int
    ts: int
    data: Prediction


class StateMessage(msgspec.Struct):
    """A symbol's state on its way out."""

    topic: str
    type: Literal["state"]
    seq: int
    ts: int
    data: StateData


class ModelMessage(msgspec.Struct):
    """A change of a symbol's model on its way out."""

    topic: str
    type: Literal["model"]
    seq: int
    ts: int
    data: ModelData


class Push(msgspec.Struct):
    """A push as a client reads it: `data` stays raw until `type` has said what it is."""

    topic: str
    type: str
    seq: int
    data: msgspec.Raw
    ts: int = 0
    missed: int = 0


Outgoing: TypeAlias = Request | Reply | PredictionMessage | StateMessage | ModelMessage

_encoder = msgspec.json.Encoder()
_request_decoder = msgspec.json.Decoder(Request)
_push_decoder = msgspec.json.Decoder(Push)


def topic_name(symbol: str) -> str:
    """The topic that carries the predictions and states of `symbol`."""
    return TOPIC_PREFIX + symbol


def encode(message: Outgoing) -> bytes:
    """The JSON of a message as UTF-8."""
    return _encoder.encode(message)


def encode_text(message: Outgoing) -> str:
    """The JSON text of a message."""
    return encode(message).decode()


def with_missed(text: str, missed: int) -> str:
    """The text of a push with the count of what was left out before it, when there is any."""
    return text if missed == 0 else f'{text[:-1]},"missed":{missed}}}'


def parse_request(text: bytes) -> Request:
    """The request in `text`; raises InputError with what came and what is allowed."""
    try:
        return _request_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            f"not a request: {error} in {shorten(text)}; "
            'allowed: {"op":"subscribe","req_id":"1","args":["prediction.SYMBOL"]}'
        ) from error


def parse_push(text: bytes) -> Push:
    """The push in `text`; raises InputError where it is none."""
    try:
        return _push_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"not a message of the stream: {error} in {shorten(text)}") from error


def shorten(value: str | bytes, length: int = 60) -> str:
    """What came, quoted in printable ASCII and cut to `length` characters for an error message."""
    return ascii(value) if len(value) <= length else f"{value[:length]!a}..."
