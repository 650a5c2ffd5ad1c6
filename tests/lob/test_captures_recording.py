"""Our recording format: what is written is read back byte for byte, whatever happens to the writer."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from lob.captures import CapturedFrame, InstrumentHint, RecordingWriter, open_capture, open_captures
from lob.errors import CaptureError, InputError

CREATED_NS = 1_700_000_000_000_000_000
BTCUSDT = InstrumentHint(symbol="BTCUSDT", tick_size="0.10")


def writer(path: Path, **changes: Any) -> RecordingWriter:
    arguments: dict[str, Any] = {"venue": "bybit", "instruments": [BTCUSDT], "created_ns": CREATED_NS}
    return RecordingWriter(path, **(arguments | changes))


def record(path: Path, frames: list[tuple[int, bytes]]) -> Path:
    with writer(path) as recording:
        for receive_ns, frame in frames:
            recording.write(receive_ns, frame)
    return path


@given(frames=st.lists(st.tuples(st.integers(0, 2**62), st.binary() | st.text().map(str.encode))))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, frames: list[tuple[int, bytes]]) -> None:
    path = record(tmp_path_factory.mktemp("recording") / "r.zst", frames)
    assert [tuple(frame) for frame in open_capture(path)] == frames


def test_round_trip_of_a_real_capture(data_dir: Path, tmp_path: Path) -> None:
    source = open_capture(
        data_dir / "bybit/spot_btcusdt_cpp_trading_core/orderbook50_btcusdt_1000frames_20260808.ndjson"
    )
    frames = list(source)
    path = record(tmp_path / "r", [(frame.receive_ns, frame.frame) for frame in frames])
    assert list(open_capture(path)) == frames


def test_header(tmp_path: Path) -> None:
    path = tmp_path / "r"
    eth = InstrumentHint(symbol="ETHUSDT", tick_size=None)
    with writer(path, venue="binance", instruments=[BTCUSDT, eth], source="simulated market") as recording:
        recording.write(1, b"{}")
    capture = open_capture(path)
    assert capture.venue == "binance"
    assert capture.instruments == (BTCUSDT, eth)
    assert capture.source == "simulated market"


def test_a_later_file_s_tick_size_fills_in(tmp_path: Path) -> None:
    with writer(tmp_path / "1", instruments=[InstrumentHint(symbol="BTCUSDT")]) as recording:
        recording.write(1, b"{}")
    record(tmp_path / "2", [(2, b"{}")])
    both = open_captures([tmp_path / "1", tmp_path / "2"])
    assert both.instruments == (BTCUSDT,)
    assert [frame.receive_ns for frame in both] == [1, 2]


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = record(tmp_path / "r", [(1, b"kept")])
    with pytest.raises(InputError, match="exists"):
        writer(path)
    (tmp_path / "other.part").write_bytes(b"someone's")
    with pytest.raises(InputError, match="exists"):
        writer(tmp_path / "other")
    assert [frame.frame for frame in open_capture(path)] == [b"kept"]
    assert (tmp_path / "other.part").read_bytes() == b"someone's"


def test_a_name_taken_while_recording_leaves_the_part_file(tmp_path: Path) -> None:
    path = tmp_path / "r"
    recording = writer(path)
    recording.write(1, b"mine")
    path.write_bytes(b"another's")
    with pytest.raises(InputError, match="appeared while recording"):
        recording.close()
    assert path.read_bytes() == b"another's"
    assert list(open_capture(tmp_path / "r.part")) == [CapturedFrame(1, b"mine")]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="cannot be created"):
        writer(tmp_path / "nowhere" / "r")


def test_a_disk_that_refuses_is_a_clear_error(tmp_path: Path) -> None:
    """The file-size limit of a process stands for a full disk: the same call fails in the same way."""
    script = (
        "import os, resource, sys\n"
        "from lob.captures import RecordingWriter, open_capture\n"
        "from lob.errors import CaptureError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "recording = RecordingWriter(sys.argv[1], venue='bybit', instruments=[], created_ns=1)\n"
        "try:\n"
        "    for second in range(100):\n"
        "        recording.write(second * 10**9, os.urandom(10_000).hex().encode())\n"
        "except CaptureError as error:\n"
        "    print(second, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "r")], capture_output=True, text=True, check=True
    )
    seconds, _, message = done.stdout.partition(" ")
    assert message.strip() == f"{tmp_path / 'r.part'}: cannot be written (File too large)"
    kept = list(open_capture(tmp_path / "r.part"))
    assert int(seconds) - 1 <= len(kept) <= int(seconds)


def test_the_part_file_is_readable_while_it_grows(tmp_path: Path) -> None:
    recording = writer(tmp_path / "r")
    for second in range(5):
        for i in range(10):
            recording.write(CREATED_NS + second * 1_000_000_000 + i, b'{"frame":%d}' % (second * 10 + i))
    part = open_capture(tmp_path / "r.part")
    flushed = list(part)
    assert part.interrupted
    assert len(flushed) >= 40  # all but the second that is still open
    recording.flush()
    assert len(list(part)) == 50
    recording.close()
    whole = open_capture(tmp_path / "r")
    assert len(list(whole)) == 50
    assert not whole.interrupted
    assert not (tmp_path / "r.part").exists()


def test_large_frames_are_flushed_before_their_second_is_over(tmp_path: Path) -> None:
    recording = writer(tmp_path / "r")
    for i in range(5):
        recording.write(CREATED_NS, b"%d" % i + os.urandom(150_000).hex().encode())
    assert len(list(open_capture(tmp_path / "r.part"))) >= 4
    recording.close()


def test_an_exception_keeps_what_was_recorded(tmp_path: Path) -> None:
    def record_and_fail() -> None:
        with writer(tmp_path / "r") as recording:
            recording.write(1, b"before")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        record_and_fail()
    assert not (tmp_path / "r").exists()
    assert list(open_capture(tmp_path / "r.part")) == [CapturedFrame(1, b"before")]


def _record_for_ever(path: str, started: "multiprocessing.synchronize.Event") -> None:
    recording = writer(Path(path))
    i = 0
    while True:
        recording.write(CREATED_NS + i * 1_000_000, b'{"i":%d}' % i)  # a thousand a second of data time
        i += 1
        if i == 5_000:
            started.set()


def test_kill_9_leaves_a_file_that_opens(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=_record_for_ever, args=(str(tmp_path / "r"), started))
    process.start()
    assert started.wait(60)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    part = open_capture(tmp_path / "r.part")
    frames = list(part)
    assert part.interrupted
    assert len(frames) >= 4_000  # at most the last second is lost
    assert frames == [CapturedFrame(CREATED_NS + i * 1_000_000, b'{"i":%d}' % i) for i in range(len(frames))]


def test_a_cut_recording_that_claims_to_be_whole_is_an_error(tmp_path: Path) -> None:
    path = record(tmp_path / "r", [(CREATED_NS + i * 10**9, b"%d" % i) for i in range(1000)])
    path.write_bytes(path.read_bytes()[:-20])
    frames = []
    with pytest.raises(CaptureError, match=r"the file was cut"):  # noqa: PT012
        for frame in open_capture(path):
            frames.append(frame)  # noqa: PERF402
    assert len(frames) > 900


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b'"version":2,"venue":"bybit","instruments":[],"created_ns":1', "version 2"),
        (b'"version":1,"venue":"ftx","instruments":[],"created_ns":1', "venue"),
        (b'"version":1,"venue":"bybit","instruments":[],"created_ns":1,"more":1', "unknown field"),
        (b'"version":1', "missing required field"),
    ],
)
def test_headers_that_are_refused(tmp_path: Path, fields: bytes, expected: str) -> None:
    path = tmp_path / "r"
    path.write_bytes(zstandard.compress(b'{"format":"mambalob-recording",' + fields + b"}\n"))
    with pytest.raises(CaptureError, match=expected):
        open_capture(path)


@pytest.mark.parametrize(
    "line",
    [
        b'{"receive_ns":1}',
        b'{"receive_ns":1,"frame":"a","frame_base64":"YQ=="}',
        b'{"receive_ns":1,"frame_base64":"not base64"}',
        b'{"receive_ns":"1","frame":"a"}',
        b'{"receive_ns":1,"frame":"a","more":1}',
        b"{",
    ],
)
def test_lines_that_are_refused(tmp_path: Path, line: bytes) -> None:
    path = record(tmp_path / "r", [(1, b"a")])
    text = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
    path.write_bytes(zstandard.compress(text + line + b"\n"))
    frames = []
    with pytest.raises(CaptureError, match="line 3: expected"):  # noqa: PT012
        for frame in open_capture(path):
            frames.append(frame)  # noqa: PERF402
    assert frames == [CapturedFrame(1, b"a")]
