import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lob.errors import InputError
from serve.messages import (
    PredictionMessage,
    Reply,
    Request,
    StateData,
    StateMessage,
    encode_text,
    parse_push,
    parse_request,
    shorten,
    topic_name,
    with_missed,
)


def test_pushes_have_the_documented_shape_and_read_back(prediction) -> None:
    message = PredictionMessage(topic_name("BTCUSDT"), "prediction", 7, 1_700, prediction(update_id=3))
    decoded = json.loads(encode_text(message))
    assert list(decoded) == ["topic", "type", "seq", "ts", "data"]
    assert (decoded["topic"], decoded["type"], decoded["seq"]) == ("prediction.BTCUSDT", "prediction", 7)
    assert list(decoded["data"]) == [
        *("symbol", "model", "model_version", "engine", "precision", "update_id", "exchange_ms"),
        *("receive_ns", "emit_ns"),
        *("latency_us", "mid", "horizons"),
    ]
    assert decoded["data"]["horizons"] == [
        {"horizon": 10, "direction": 1, "confidence": 0.5, "probabilities": [0.2, 0.3, 0.5]}
    ]
    text = encode_text(StateMessage("prediction.A", "state", 1, 2, StateData("stale", 'a "gap"')))
    push = parse_push(text.encode())
    assert (push.topic, push.type, push.seq, push.missed) == ("prediction.A", "state", 1, 0)
    assert json.loads(bytes(push.data)) == {"state": "stale", "reason": 'a "gap"'}


def test_the_count_of_what_was_missed_is_there_only_when_something_was() -> None:
    text = encode_text(StateMessage("prediction.A", "state", 1, 2, StateData("live", "")))
    assert with_missed(text, 0) == text
    assert json.loads(with_missed(text, 12)) == json.loads(text) | {"missed": 12}
    assert parse_push(with_missed(text, 12).encode()).missed == 12


def test_requests_and_replies_have_the_shape_of_bybits() -> None:
    text = encode_text(Request("subscribe", "1", ["prediction.A"]))
    assert json.loads(text) == {"op": "subscribe", "req_id": "1", "args": ["prediction.A"]}
    assert parse_request(text.encode()) == Request("subscribe", "1", ["prediction.A"])
    assert list(json.loads(encode_text(Reply("ping", True, "", "pong", "c")))) == [
        *("op", "success", "req_id", "ret_msg", "conn_id")
    ]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_short_printable_error(data: bytes) -> None:
    for parse in (parse_request, parse_push):
        try:
            parse(data)
            said = ""
        except InputError as error:
            said = str(error)
        assert said.isprintable()
        assert len(said) < 600


def test_what_came_is_quoted_cut_and_plain_ascii() -> None:
    assert shorten("ü\n") == "'\\xfc\\n'"
    assert shorten("x" * 60) == f"'{'x' * 60}'"
    assert shorten("x" * 61) == f"'{'x' * 60}'..."
    with pytest.raises(InputError, match="not a message of the stream"):
        parse_push(b"[]")
