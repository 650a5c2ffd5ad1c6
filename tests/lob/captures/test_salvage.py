"""What a killed recorder leaves is closed: whole, indexed, under its name, however often it is tried."""

import os
from pathlib import Path

import pytest

from lob.captures import InstrumentHint, RecordingWriter, open_capture, open_captures
from lob.captures.index import index_path, read_index
from lob.captures.inspection import inspect_capture
from lob.captures.salvage import close_left, salvage
from lob.errors import CaptureError
from lob.instrument import Instrument

INSTRUMENT = Instrument(symbol="BTCUSDT", tick_size="0.10")


@pytest.fixture
def left(tmp_path: Path, make_writer, frames) -> Path:
    """The folder of a recorder that was killed in its third file, half a second after its last flush."""
    writer = make_writer(every_s=3)
    for receive_ns, frame in frames[:325]:
        writer.record(receive_ns, frame)
    copy = tmp_path / "left"
    copy.mkdir()
    writer._await_closing()
    for path in tmp_path.glob("2023*"):  # as the disk is now, nothing flushed any more
        (copy / path.name).write_bytes(path.read_bytes())
    writer.close()
    return copy


def the_part(folder: Path) -> Path:
    (part,) = folder.glob("*.part")
    return part


def test_the_part_gets_its_end_its_name_and_its_index(left, frames) -> None:
    flushed = list(open_capture(the_part(left)))[1:]
    (closed,) = close_left(left)
    assert not list(left.glob("*.part"))
    files = sorted(left.glob("*.zst"))
    assert files[-1] == closed
    together = [tuple(frame) for frame in open_captures(files)]
    assert together == frames[: len(together)]
    assert len(together) >= 325 - 50
    index = read_index(closed)
    assert index.salvaged
    assert index.damage == ""
    assert index.frames == len(flushed)
    assert (index.recording, index.part) == (read_index(files[0]).recording, 2)
    found = inspect_capture(closed, INSTRUMENT)
    assert not found.interrupted
    assert found.index.sha256 == index.sha256
    assert close_left(left) == []


@pytest.mark.parametrize("share", [0.4, 0.7, 0.99])
def test_a_part_cut_anywhere_is_closed(left, share) -> None:
    part = the_part(left)
    content = part.read_bytes()
    part.write_bytes(content[: int(len(content) * share)])
    kept = list(open_capture(part))
    (closed,) = close_left(left)
    assert list(open_capture(closed)) == kept


def test_damage_beyond_a_missing_end_is_kept_aside_and_told(left) -> None:
    part = the_part(left)
    content = part.read_bytes()
    damaged = content[: len(content) * 3 // 4] + b"\xff" * 100_000  # what a power cut may leave
    part.write_bytes(damaged)
    (closed,) = close_left(left)
    index = read_index(closed)
    assert index.salvaged
    assert "damaged compressed data" in index.damage
    assert index.frames > 50
    assert len(list(open_capture(closed))) == index.frames + 1
    assert (left / (closed.name + ".damaged")).read_bytes() == damaged


def test_a_part_that_was_finished_keeps_its_bytes(tmp_path, make_writer, frames) -> None:
    writer = make_writer()
    for receive_ns, frame in frames[:10]:
        writer.record(receive_ns, frame)
    writer.abandon()
    part = the_part(tmp_path)
    content = part.read_bytes()
    whole = salvage(part)
    assert whole.read_bytes() == content
    assert not read_index(whole).salvaged


def test_a_kill_before_the_index_or_amid_salvage_is_mended(left) -> None:
    first = sorted(left.glob("*.zst"))[0]
    index = read_index(first)
    index_path(first).unlink()
    remains = left / f".{the_part(left).name}.salvage.part"
    remains.write_bytes(b"half")
    assert len(close_left(left)) == 1
    assert read_index(first) == index
    assert not remains.exists()


def test_a_part_without_a_header(tmp_path) -> None:
    empty, rubbish = (tmp_path / f"{name}.jsonl.zst.part" for name in "ab")
    empty.touch()
    rubbish.write_bytes(os.urandom(100))
    assert close_left(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["b.jsonl.zst.damaged"]


def test_a_part_into_which_nothing_of_the_market_came_is_removed(tmp_path) -> None:
    hint = InstrumentHint(symbol="BTCUSDT", tick_size="0.10")
    for name, frames in (("a", []), ("b", [b'{"op":"pong"}']), ("c", [b"half a cha"])):
        writer = RecordingWriter(
            tmp_path / f"{name}.jsonl.zst", venue="bybit", instruments=[hint], created_ns=1
        )
        for frame in frames:
            writer.write(1, frame)
        writer.abandon()
    (closed,) = close_left(tmp_path)
    assert closed.name == "c.jsonl.zst"
    assert [tuple(frame) for frame in open_capture(closed)] == [(1, b"half a cha")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.jsonl.zst", "c.jsonl.zst.index.json"]


def test_a_name_that_is_taken_is_left_alone(left) -> None:
    part = the_part(left)
    taken = part.with_suffix("")
    taken.write_bytes(b"another's")
    with pytest.raises(CaptureError, match=r"cannot be closed, as .* exists; move one of them away"):
        close_left(left)
    assert taken.read_bytes() == b"another's"


def test_a_recording_that_states_no_instrument_is_refused(tmp_path) -> None:
    with RecordingWriter(tmp_path / "r.jsonl.zst", venue="bybit", instruments=[], created_ns=1) as writer:
        writer.write(1, b"{}")
    with pytest.raises(
        CaptureError, match="expected a recording of one instrument whose tick size it states"
    ):
        close_left(tmp_path)


def test_a_part_that_is_being_written_is_let_be(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl.zst"
    hint = InstrumentHint(symbol="BTCUSDT", tick_size="0.10")
    with RecordingWriter(path, venue="bybit", instruments=[hint], created_ns=1) as writer:
        writer.write(1, b"{}")
        writer.flush()
        assert close_left(tmp_path) == []
        writer.write(2, b"{}")
    assert len(list(open_capture(path))) == 2
