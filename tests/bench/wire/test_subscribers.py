"""Reading a server's websocket frames off a buffer, held against the library that writes them."""

import socket

import pytest
from websockets.frames import Frame, Opcode

from bench.wire.processes import ProcessEndedError
from bench.wire.subscribers import _Subscriber, take_frames

SENT = [
    Frame(Opcode.TEXT, b"x" * length) for length in (0, 1, 125, 126, 127, 128, 65_535, 65_536, 70_000)
] + [Frame(Opcode.PING, b"1234"), Frame(Opcode.CLOSE, b"\x03\xe9")]


@pytest.mark.parametrize("piece", [1, 3, 1000, 10**6])
def test_frames_come_whole_however_their_bytes_come(piece: int) -> None:
    written = b"".join(frame.serialize(mask=False) for frame in SENT[:6] if piece == 1) or b"".join(
        frame.serialize(mask=False) for frame in SENT
    )
    expected = SENT[:6] if piece == 1 else SENT
    buffer, frames = bytearray(), []
    for start in range(0, len(written), piece):
        buffer += written[start : start + piece]
        frames += take_frames(buffer)
    assert frames == [(frame.opcode, bytes(frame.data)) for frame in expected]
    assert not buffer


@pytest.fixture
def subscriber():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield _Subscriber(socket=ours, slow=False, buffer=bytearray()), theirs


def test_predictions_are_noted_with_the_time_their_bytes_were_there(subscriber) -> None:
    one, _ = subscriber
    texts = [b'{"data":{"update_id":%d,"mid":1.5}}' % number for number in (7, 9)]
    written = b"".join(Frame(Opcode.TEXT, text).serialize(mask=False) for text in texts)
    state = Frame(Opcode.TEXT, b'{"type":"state"}').serialize(mask=False)
    assert one.take(state + written[:-1], 100) == 7
    assert one.take(written[-1:], 200) == 9
    assert (one.update_ids, one.receipt_ns) == ([7, 9], [100, 200])


def test_a_ping_is_answered(subscriber) -> None:
    one, service = subscriber
    one.take(Frame(Opcode.PING, b"1234").serialize(mask=False), 1)
    answer = service.recv(100)
    assert answer[0] & 0x0F == Opcode.PONG
    assert len(answer) == 2 + 4 + 4  # header, mask, the ping's payload


@pytest.mark.parametrize("received", [b"", Frame(Opcode.CLOSE, b"\x03\xe9").serialize(mask=False)])
def test_an_end_of_the_connection_ends_the_run(subscriber, received: bytes) -> None:
    with pytest.raises(ProcessEndedError, match="closed a subscriber's connection"):
        subscriber[0].take(received, 1)
