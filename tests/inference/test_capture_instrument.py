"""Which instrument a capture is of: as given, as stated, as inferred."""

import json
from pathlib import Path

import pytest

from inference.capture_instrument import capture_instrument
from lob.captures import InstrumentHint, RecordingWriter, open_capture
from lob.errors import InputError


def frame(symbol: str, kind: str, bids: list[list[str]], asks: list[list[str]], update_id: int = 1) -> bytes:
    data = {"s": symbol, "b": bids, "a": asks, "u": update_id, "seq": update_id}
    return json.dumps(
        {"topic": f"orderbook.50.{symbol}", "type": kind, "ts": 1, "data": data, "cts": 1}
    ).encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "capture.ndjson"
    frames = [
        frame("BTCUSDT", "snapshot", [["100.10", "1"]], [["100.40", "1"]]),
        frame("BTCUSDT", "delta", [["nonsense", "1"]], [], 2),
        frame("BTCUSDT", "delta", [["99.90", "0"]], [["0.00", "1"]], 3),
    ]
    path.write_bytes(b"\n".join(frames))
    return path


def test_infers_from_all_prices_but_those_that_are_none(path: Path) -> None:
    found = capture_instrument(open_capture(path))
    assert found.instrument.symbol == "BTCUSDT"
    assert float(found.instrument.tick_size) == 0.1
    assert found.tick_origin == "inferred from 3 prices in the first 3 book messages"


def test_a_damaged_side_gives_no_price_and_is_left_to_the_replay(path: Path) -> None:
    damaged = frame("BTCUSDT", "delta", [["99.97", "1"]], [], 4).replace(b"99.97", b"99.\xfb7")
    path.write_bytes(path.read_bytes() + b"\n" + damaged)
    assert float(capture_instrument(open_capture(path)).instrument.tick_size) == 0.1


def test_takes_what_is_given(path: Path) -> None:
    found = capture_instrument(open_capture(path), tick_size="0.05")
    assert (found.instrument.tick_size, found.tick_origin) == ("0.05", "given")


def test_takes_what_a_recording_states(tmp_path: Path) -> None:
    hint = InstrumentHint(symbol="BTCUSDT", tick_size="0.10")
    with RecordingWriter(tmp_path / "r.zst", venue="bybit", instruments=[hint], created_ns=0) as writer:
        writer.write(1, frame("BTCUSDT", "snapshot", [["100", "1"]], [["105", "1"]]))
    found = capture_instrument(open_capture(tmp_path / "r.zst"))
    assert (found.instrument.tick_size, found.tick_origin) == ("0.10", "stated in the capture")


def test_of_several_symbols_one_must_be_named(tmp_path: Path) -> None:
    path = tmp_path / "two.ndjson"
    one = frame("BTCUSDT", "snapshot", [["100", "1"]], [["105", "1"]])
    other = frame("ETHUSDT", "snapshot", [["7", "1"]], [["9", "1"]])
    path.write_bytes(one + b"\n" + other)
    with pytest.raises(InputError, match="holds BTCUSDT, ETHUSDT; name one with --symbol"):
        capture_instrument(open_capture(path))
    found = capture_instrument(open_capture(path), symbol="BTCUSDT")
    assert float(found.instrument.tick_size) == 5


def test_a_symbol_without_prices_is_refused(path: Path) -> None:
    with pytest.raises(InputError, match=r"no price of XRPUSDT .* --tick-size"):
        capture_instrument(open_capture(path), symbol="XRPUSDT")


def test_a_capture_that_names_no_symbol_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pong.ndjson"
    path.write_text('{"success":true,"ret_msg":"pong","conn_id":"c","op":"ping"}\n')
    with pytest.raises(InputError, match="names no symbol at its start"):
        capture_instrument(open_capture(path))
