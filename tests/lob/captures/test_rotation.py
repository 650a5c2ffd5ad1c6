"""Files of one recording: together the frames as they came, and each by itself a book that goes on."""

import hashlib
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from lob.captures import CapturedFrame, open_capture, open_captures
from lob.captures.capture import recording_header
from lob.captures.index import index_path, read_index
from lob.captures.inspection import inspect_capture
from lob.captures.rotation import RotationPolicy
from lob.errors import CaptureError, InputError
from lob.instrument import Instrument
from lob.row_status import RowStatus
from lob.rows import RowPath
from lob.venues import make_decoder

INSTRUMENT = Instrument(symbol="BTCUSDT", tick_size="0.10")


def record(writer, frames) -> None:
    with writer:
        record_frames(writer, frames)


def record_frames(writer, frames) -> None:
    for receive_ns, frame in frames:
        writer.record(receive_ns, frame)


def replay(capture, sampling: str = "top_changed") -> tuple[np.ndarray, list[RowStatus], RowPath]:
    """Rows, statuses and the end of a row path over a capture."""
    path = RowPath(make_decoder("bybit"), INSTRUMENT, sampling=sampling)
    rows, statuses = [], []
    for receive_ns, frame in capture:
        statuses.append(path.on_frame(frame, receive_ns))
        if statuses[-1] in {RowStatus.ROW, RowStatus.SNAPSHOT}:
            rows.append(path.window.latest().copy())
    return np.array(rows), statuses, path


def test_together_the_files_are_the_frames_as_they_came(recorded, frames) -> None:
    assert len(recorded) == 7  # 18 s that begin 2 s into a period
    assert [tuple(frame) for frame in open_captures(recorded)] == frames


def test_files_begin_with_the_period(recorded) -> None:
    for path in recorded[1:]:
        index = read_index(path)
        assert index.first_receive_ns // 10**9 % 3 == 0
        assert index.last_receive_ns // 10**9 % 3 == 2 or path == recorded[-1]
    assert recorded[0].name == "2023-11-14T22-13-20.000000Z.jsonl.zst"


@pytest.mark.parametrize("sampling", ["top_changed", "every_message"])
def test_each_file_alone_gives_the_rows_it_gives_after_the_others(recorded, frames, sampling) -> None:
    whole, _, end = replay(frames, sampling)
    alone = []
    for number, path in enumerate(recorded):
        rows, statuses, last = replay(open_capture(path), sampling)
        assert RowStatus.WAITING not in statuses
        assert statuses[0] is RowStatus.SNAPSHOT
        alone.append(rows if number == 0 else rows[1:])  # without the checkpoint's own
    np.testing.assert_array_equal(np.concatenate(alone), whole)
    for side in ("bids", "asks"):
        for ours, theirs in zip(getattr(last.book, side)(), getattr(end.book, side)(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_missing_file_brings_the_checkpoint_in(recorded) -> None:
    with_hole = list(open_captures([recorded[0], recorded[2]]))
    first, third = read_index(recorded[0]), read_index(recorded[2])
    assert len(with_hole) == first.frames + 1 + third.frames
    checkpoint = json.loads(with_hole[first.frames].frame)
    assert checkpoint["type"] == "snapshot"
    assert checkpoint["data"]["u"] == third.checkpoint_update_id == third.first_update_id - 1
    _, statuses, _ = replay(with_hole)
    assert RowStatus.GAP not in statuses


def test_the_index_is_what_the_file_holds(recorded, frames) -> None:
    total = 0
    for number, path in enumerate(recorded):
        index = read_index(path)
        assert index == inspect_capture(path, INSTRUMENT).index
        assert index.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert index.bytes == path.stat().st_size
        assert index.part == number
        assert index.recording == read_index(recorded[0]).recording != ""
        mine = frames[total : total + index.frames]
        assert (index.first_receive_ns, index.last_receive_ns) == (mine[0][0], mine[-1][0])
        updates = [json.loads(frame) for _, frame in mine]
        assert index.first_update_id == updates[0]["data"]["u"]
        assert index.last_update_id == updates[-1]["data"]["u"]
        assert index.first_exchange_ms == updates[0]["cts"]
        assert index.frame_bytes == sum(len(frame) for _, frame in mine)
        assert (index.snapshots, index.gaps, index.faults) == (number == 0, 0, ())
        total += index.frames
    assert total == len(frames)


def test_size_rotates_too(tmp_path, make_writer, frames) -> None:
    record(make_writer(file_bytes=20_000, flush_ns=1), frames)
    sizes = [path.stat().st_size for path in sorted(tmp_path.glob("*.zst"))]
    assert len(sizes) > 3
    assert all(20_000 <= size < 21_500 for size in sizes[:-1])


def test_a_lost_book_is_no_checkpoint_and_is_told_in_the_index(tmp_path, make_writer, frames) -> None:
    kept = frames[:100] + frames[101:300]
    record(make_writer(every_s=3), kept)
    _, first, second = sorted(tmp_path.glob("*.zst"))[:3]
    index = read_index(first)
    assert index.gaps == 1
    (fault,) = index.faults
    lost = [json.loads(frames[place][1])["data"]["u"] for place in (99, 101)]
    assert (fault.kind, fault.frame, fault.after_update_id, fault.update_id) == ("gap", 51, *lost)
    assert str(fault) == f"gap at frame 51: update {lost[0] + 1} is missing"
    assert recording_header(second).checkpoint is None
    assert read_index(second).waiting == read_index(second).frames
    for path in sorted(tmp_path.glob("*.zst")):
        assert read_index(path) == inspect_capture(path, INSTRUMENT).index


def test_sizes_and_prices_of_a_checkpoint_are_exact(tmp_path, make_writer, frames) -> None:
    bids, asks = [["0.30", "0.00000001"], ["0.20", "123456789.123"]], [["0.40", "0.1"], ["1000000", "3"]]
    snapshot = json.loads(frames[0][1])
    snapshot["data"] |= {"b": bids, "a": asks}
    first = (frames[0][0], json.dumps(snapshot).encode())
    other = (frames[0][0] + 4 * 10**9, b'{"op":"pong"}')
    record(make_writer(every_s=1), [first, other])
    checkpoint = recording_header(sorted(tmp_path.glob("*.zst"))[1]).checkpoint
    data = json.loads(checkpoint.frame)["data"]
    assert data["b"] == [["0.3", "0.00000001"], ["0.2", "123456789.123"]]
    assert data["a"] == [["0.4", "0.1"], ["1000000.0", "3"]]
    assert checkpoint.receive_ns == first[0]


PONG = b'{"success":true,"ret_msg":"pong","conn_id":"test","op":"ping"}'


@pytest.mark.parametrize("said", [[], [PONG]], ids=["nothing", "an answer"])
def test_a_file_into_which_nothing_of_the_market_came_is_removed(tmp_path, make_writer, frames, said) -> None:
    with make_writer() as writer:
        record_frames(writer, [(frames[0][0], frame) for frame in said])
    assert list(tmp_path.iterdir()) == []
    assert (writer.files, writer.frames, writer.file_bytes, writer.holds_book) == (0, len(said), 0, False)


@pytest.mark.parametrize(
    "place",
    [1, pytest.param(None, id="a trade")],
    ids=lambda place: "a change without a book" if place else None,
)
def test_what_came_of_the_market_is_kept_though_no_book_did(tmp_path, make_writer, frames, place) -> None:
    trade = b'{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1,"data":[]}'
    came = (frames[0][0], trade if place is None else frames[place][1])
    with make_writer() as writer:
        record_frames(writer, [came])
    (path,) = tmp_path.glob("*.zst")
    assert [tuple(frame) for frame in open_capture(path)] == [came]
    index = read_index(path)
    assert index.holds_market
    assert not index.holds_book
    assert (writer.files, writer.first_path, writer.holds_book) == (1, path, False)


def test_a_file_of_answers_alone_between_others_costs_no_part(tmp_path, make_writer, frames) -> None:
    def at(second: int, frame: bytes) -> tuple[int, bytes]:
        return frames[0][0] + second * 10**9, frame

    answers = [at(second, PONG) for second in range(3)]
    with make_writer(every_s=1) as writer:
        record_frames(writer, [*answers, at(3, frames[0][1]), at(4, frames[1][1]), at(5, PONG)])
    paths = sorted(tmp_path.glob("*.zst"))
    assert [read_index(path).part for path in paths] == [0, 1, 2]
    assert [frame for _, frame in open_captures(paths)] == [frames[0][1], frames[1][1], PONG]
    assert (writer.files, writer.first_path, writer.holds_book) == (3, paths[0], True)
    assert writer.file_bytes == sum(path.stat().st_size for path in paths)


def test_an_exception_leaves_a_part_and_no_thread(tmp_path, make_writer, frames) -> None:
    def record_and_fail() -> None:
        with make_writer(every_s=3) as writer:
            for receive_ns, frame in frames[:400]:
                writer.record(receive_ns, frame)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        record_and_fail()
    (part,) = tmp_path.glob("*.part")
    assert [*open_captures([*sorted(tmp_path.glob("*.zst")), part])] == [
        CapturedFrame(*pair) for pair in frames[:400]
    ]
    assert not index_path(part.with_suffix("")).exists()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("capture-close")]


def test_a_policy_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError, match="every_s: 0 came, 1 or more is allowed"):
        RotationPolicy(every_s=0)
    with pytest.raises(InputError, match="file_bytes: -1 came"):
        RotationPolicy(file_bytes=-1)


FILL = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from conftest import INSTRUMENT, START_NS
from lob.captures.layout import recording_path
from lob.captures.rotation import RotatingWriter, RotationPolicy
from lob.errors import CaptureError
from lob.market import MarketConfiguration, SimulatedMarket
from lob.rows import RowPath
from lob.venues import make_decoder

directory = Path(sys.argv[1])
rows = RowPath(make_decoder("bybit"), INSTRUMENT, depth=50)
name = lambda receive_ns: recording_path(directory, receive_ns)
policy = RotationPolicy(every_s=60, file_bytes=300_000)
count = 0
try:
    with RotatingWriter(rows, depth=50, name_file=name, created_ns=START_NS, policy=policy) as writer:
        for _, frame in SimulatedMarket(MarketConfiguration(seed=9)).generate(100_000):
            writer.record(START_NS + count * 20_000_000, frame)
            count += 1
except CaptureError as error:
    print(count, error)
"""


def test_a_full_disk_is_a_clear_error_and_costs_nothing_that_was_flushed(full_disk: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(full_disk), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    count, _, message = done.stdout.strip().partition(" ")
    assert re.search(r"(\.part|\.index\.json): cannot be written \(No space left on device\)$", message), done
    whole, (part,) = sorted(full_disk.glob("*.zst")), full_disk.glob("*.part")
    assert len(whole) >= 2
    frames = list(open_captures([*whole, part]))
    assert int(count) - 100 <= len(frames) <= int(count)  # a flush every 50 frames
    _, statuses, _ = replay(frames)
    assert not {RowStatus.GAP, RowStatus.WAITING} & set(statuses)
    for path in whole:
        assert read_index(path) == inspect_capture(path, INSTRUMENT).index


def test_an_index_that_is_none_is_refused(recorded) -> None:
    index_path(recorded[0]).write_text("{}")
    with pytest.raises(CaptureError, match=r"index\.json: no index of a capture"):
        read_index(recorded[0])
    text = index_path(recorded[1]).read_text().replace('"format_version": 1', '"format_version": 9')
    index_path(recorded[1]).write_text(text)
    with pytest.raises(CaptureError, match="format_version: 9 came, this program reads 1"):
        read_index(recorded[1])
    index_path(recorded[2]).unlink()
    assert read_index(recorded[2]) is None


GROWTH = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from conftest import INSTRUMENT, START_NS
from lob.captures.layout import recording_path
from lob.captures.rotation import RotatingWriter, RotationPolicy
from lob.market import MarketConfiguration, SimulatedMarket
from lob.rows import RowPath
from lob.venues import make_decoder

def kib(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])

directory = Path(sys.argv[1])
frames = [frame for _, frame in SimulatedMarket(MarketConfiguration(seed=9)).generate(1_000)]
rows = RowPath(make_decoder("bybit"), INSTRUMENT, depth=50)
name = lambda receive_ns: recording_path(directory, receive_ns)
with RotatingWriter(
    rows, depth=50, name_file=name, created_ns=START_NS, policy=RotationPolicy(every_s=60, file_bytes=None)
) as writer:
    for number in range(100_000):
        if number == 10_000:
            Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
            before = kib("VmRSS")
        # No gap is spared: each pass loses one, and the index of a file tells them all.
        if number % 1_000 != 500:
            writer.record(START_NS + number * 5_000_000, frames[number % 1_000])
print(kib("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from Linux's /proc")
def test_memory_does_not_grow_with_what_is_recorded(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(tmp_path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    files = sorted(tmp_path.glob("*.zst"))
    assert len(files) > 8
    assert sum(read_index(path).gaps for path in files) == 100
    print(f"{done.stdout.strip()} KiB more at the peak")
    assert int(done.stdout) < 8 * 1024  # 27 MB of frames went through
