"""A folder of captures becomes a data set: the same one whatever the workers, and larger than memory."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from inference.folder_lock import folder_lock
from lob.captures import InstrumentHint, RecordingWriter, open_capture, open_captures
from lob.captures.layout import recording_path
from lob.captures.rotation import RotatingWriter, RotationPolicy
from lob.errors import CaptureError, InputError
from lob.instrument import Instrument
from lob.market import MarketConfiguration, SimulatedMarket
from lob.row_status import RowStatus
from lob.rows import RowPath
from lob.venues import make_decoder
from training.builder import LOCK_FILE, BuildConfig, build_dataset, build_dataset_folder
from training.dataset import ARRAYS, Dataset, read_dataset, write_dataset

INSTRUMENT = Instrument(symbol="BTCUSDT", tick_size="0.10")
HINT = InstrumentHint(symbol="BTCUSDT", tick_size="0.10")
START_NS = 1_700_000_000_000_000_000
FRAME_NS = 20_000_000


def record(folder: Path, frames: list[bytes], *, first_ns: int = START_NS, every_s: int = 4) -> None:
    """Add a recording of `frames`, 20 ms apart, to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with RotatingWriter(
        RowPath(make_decoder("bybit"), INSTRUMENT, depth=50),
        depth=50,
        name_file=lambda receive_ns: recording_path(folder, receive_ns),
        created_ns=first_ns,
        policy=RotationPolicy(every_s=every_s, file_bytes=None),
    ) as writer:
        for number, frame in enumerate(frames):
            writer.record(first_ns + number * FRAME_NS, frame)


@pytest.fixture(scope="session")
def market() -> list[bytes]:
    """1,500 frames of the simulated market."""
    return [frame for _, frame in SimulatedMarket(MarketConfiguration(seed=21)).generate(1_500)]


@pytest.fixture(scope="session")
def days(tmp_path_factory: pytest.TempPathFactory, market: list[bytes]) -> Path:
    """Two recordings of several files each: in the first a frame is lost, and much later a snapshot comes."""
    folder = tmp_path_factory.mktemp("days")
    record(folder, [*market[:700], *market[701:1000], *market])
    record(folder, market[:600], first_ns=START_NS + 3600 * 10**9)
    return folder


def rows_one_after_another(folder: Path, sampling: str) -> dict[str, np.ndarray]:
    """The arrays as one row path over all files gives them."""
    path = RowPath(make_decoder("bybit"), INSTRUMENT, sampling=sampling)
    arrays: dict[str, list] = {name: [] for name in ARRAYS}
    segment = -1
    for receive_ns, frame in open_captures(sorted(folder.glob("*.zst"))):
        status = path.on_frame(frame, receive_ns)
        segment += status is RowStatus.SNAPSHOT
        if status in {RowStatus.ROW, RowStatus.SNAPSHOT}:
            arrays["rows"].append(path.window.latest().copy())
            arrays["mid_half_ticks"].append(round(path.mid * 20))
            arrays["exchange_ms"].append(path.exchange_ms)
            arrays["receive_ns"].append(receive_ns)
            arrays["segments"].append(segment)
    return {name: np.array(values) for name, values in arrays.items()}


@pytest.mark.parametrize("sampling", ["top_changed", "every_message"])
def test_files_read_apart_give_what_they_give_one_after_another(days: Path, sampling: str) -> None:
    told: list[int] = []
    config = BuildConfig(name="days", sampling=sampling)
    dataset = build_dataset([days], config, on_file=lambda name, rows: told.append(rows))
    for name, expected in rows_one_after_another(days, sampling).items():
        np.testing.assert_array_equal(getattr(dataset, name), expected, err_msg=name)
    manifest = dataset.manifest
    assert manifest.segments == 3
    assert told == [file.rows for file in manifest.files]
    assert len(manifest.files) == len(list(days.glob("*.zst"))) > 10
    assert sum(file.rows for file in manifest.files) == manifest.rows == len(dataset.rows)
    assert manifest.frames["gap"] == 1
    assert sum(manifest.frames.values()) == 999 + 1500 + 600


def test_the_number_of_workers_changes_no_byte(days: Path, tmp_path: Path) -> None:
    for workers in (1, 3):
        build_dataset_folder([days], tmp_path / f"{workers}" / "d", BuildConfig(name="d"), workers=workers)
    one, three = (sorted((tmp_path / f"{workers}" / "d").iterdir()) for workers in (1, 3))
    assert [path.name for path in one] == [path.name for path in three]
    assert len(one) == 1 + len(ARRAYS)
    for ours, theirs in zip(one, three, strict=True):
        assert ours.read_bytes() == theirs.read_bytes(), ours.name
    assert not [path for path in (tmp_path / "1").iterdir() if path.name != "d"]


def test_the_arrays_are_the_files_that_numpy_writes(days: Path, tmp_path: Path) -> None:
    manifest = build_dataset_folder([days], tmp_path / "d", BuildConfig(name="d"))
    write_dataset(tmp_path / "again", read_dataset(tmp_path / "d"))
    for name in ARRAYS:
        content = (tmp_path / "d" / f"{name}.npy").read_bytes()
        assert content == (tmp_path / "again" / f"{name}.npy").read_bytes()
        assert hashlib.sha256(content).hexdigest() == manifest.arrays[name]


def test_a_missing_file_begins_a_segment_with_the_book_it_states(days: Path) -> None:
    files = sorted(days.glob("*.zst"))
    dataset = build_dataset([files[0], files[2]], BuildConfig(name="hole"))
    assert dataset.manifest.segments == 2
    first = dataset.manifest.files[0].rows
    assert dataset.segments.tolist() == [0] * first + [1] * (len(dataset.rows) - first)
    assert dataset.receive_ns[first] < dataset.manifest.files[1].first_ns  # when the book was so


def test_real_captures_of_which_one_needs_the_other_are_read_in_one(
    spot_captures: list[Path], spot_dataset: Dataset, tmp_path: Path
) -> None:
    manifest = build_dataset_folder(
        spot_captures, tmp_path / "d", BuildConfig(name="spot-btcusdt"), workers=2
    )
    assert manifest.segments == 1
    np.testing.assert_array_equal(read_dataset(tmp_path / "d").rows, spot_dataset.rows)


def test_days_of_the_archive_s_format_are_segments(data_dir: Path, tmp_path: Path) -> None:
    """Two days of one stream as Bybit's archive has them; the second is the first, a day later."""
    day = data_dir / "bybit" / "linear_xrpusdt_ob500_nautilus" / "xrpusdt-ob500.data.zip"
    lines = [frame for _, frame in open_capture(day)]
    later = []
    for line in lines:
        frame = json.loads(line)
        frame |= {stamp: frame[stamp] + 86_400_000 for stamp in ("ts", "cts")}
        later.append(json.dumps(frame).encode())
    (tmp_path / "2024-12-01.ndjson").write_bytes(b"\n".join(lines))
    (tmp_path / "2024-12-02.ndjson").write_bytes(b"\n".join(later))
    dataset = build_dataset([tmp_path], BuildConfig(name="xrp"))
    half = len(dataset.rows) // 2
    assert dataset.manifest.segments == 2
    assert half > 40
    np.testing.assert_array_equal(dataset.rows[:half], dataset.rows[half:])
    assert (dataset.exchange_ms[half:] - dataset.exchange_ms[:half] == 86_400_000).all()


def test_captures_out_of_order_are_refused(days: Path, tmp_path: Path) -> None:
    files = sorted(days.glob("*.zst"))
    with pytest.raises(InputError, match=r"begins before .* ends; captures are needed in the order of time"):
        build_dataset_folder([files[-1], files[0]], tmp_path / "d", BuildConfig(name="d"))
    assert not list(tmp_path.iterdir())


def test_a_folder_of_several_streams_is_refused(tmp_path: Path, market: list[bytes]) -> None:
    for depth in (50, 200):
        record(tmp_path / "bybit" / "linear" / "BTCUSDT" / f"orderbook.{depth}", market[:10])
    with pytest.raises(InputError, match="captures of 2 folders came to light"):
        build_dataset([tmp_path / "bybit"], BuildConfig(name="d"))


def test_an_error_in_a_worker_leaves_nothing(days: Path, tmp_path: Path) -> None:
    files = [tmp_path / path.name for path in sorted(days.glob("*.zst"))[:4]]
    for path in files:
        path.write_bytes((days / path.name).read_bytes())
    files[2].write_bytes(files[2].read_bytes()[:-40])
    with pytest.raises(CaptureError, match="the file was cut"):
        build_dataset_folder(files, tmp_path / "data" / "d", BuildConfig(name="d"), workers=2)
    assert not (tmp_path / "data").exists()


PEAK = """
import sys
from pathlib import Path
from training.builder import LOCK_FILE, BuildConfig, build_dataset_folder

def kib(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])

config = BuildConfig(name="d", sampling="every_message")
for folder in sys.argv[1:]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = kib("VmRSS")
    build_dataset_folder([Path(folder)], Path(folder).with_suffix(".built"), config)
    print(kib("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from Linux's /proc")
def test_memory_does_not_grow_with_the_captures(tmp_path: Path, market: list[bytes]) -> None:
    """A hundred thousand rows pass through a process that has built before; its peak stays near its start."""
    for name, passes in (("small", 1), ("large", 100)):
        (tmp_path / name).mkdir()
        with RecordingWriter(
            tmp_path / name / "1.jsonl.zst", venue="bybit", instruments=[HINT], created_ns=1
        ) as writer:
            for number in range(passes * 1_000):
                writer.write(START_NS + number * FRAME_NS, market[number % 1_000])
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path / "small"), str(tmp_path / "large")],
        capture_output=True,
        text=True,
        check=True,
    )
    _, grown_kib = map(int, done.stdout.split())
    rows = read_dataset(tmp_path / "large.built").rows
    print(f"{grown_kib:,} KiB more at the peak for {rows.nbytes:,} bytes of rows")
    assert rows.nbytes > 17_000_000
    assert grown_kib * 1024 < rows.nbytes / 3


def children(process_id: int) -> list[int]:
    """The processes that a process started, by Linux's own list."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[1]) == process_id and fields[0] != "Z":
                found.append(int(status.parent.name))
    return found


def spooled(target: Path) -> set[Path]:
    """The folders of builds of `target` that have begun to write rows."""
    return {path.parents[1] for path in target.parent.glob(".d.*/spool/*.raw")}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are listed from Linux's /proc")
def test_a_killed_build_leaves_no_half_data_set_and_the_next_one_begins_anew(
    days: Path, tmp_path: Path
) -> None:
    target = tmp_path / "data" / "d"
    config = BuildConfig(name="d")
    build_dataset_folder([days], tmp_path / "whole", config)
    for workers in (1, 2):
        left = spooled(target)  # of the build that was killed before
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mambalob", "build", str(days), "--out", str(target)),
                *("--workers", str(workers), "--replace"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline_s = time.monotonic() + 60
        while not spooled(target) - left and time.monotonic() < deadline_s:
            time.sleep(0.002)
        workers_ids = children(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert workers == 1 or len(workers_ids) >= workers
        assert len(spooled(target) - left) == len(list(target.parent.glob(".d.*"))) == 1
        assert not target.exists()
        while any(Path(f"/proc/{one}").exists() for one in workers_ids) and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert not any(Path(f"/proc/{one}").exists() for one in workers_ids)
    other = target.parent / ".d.0123456789"  # not a build's
    other.mkdir()
    at_work = target.parent / ".d.01234567"
    at_work.mkdir()
    with folder_lock(at_work, LOCK_FILE):
        manifest = build_dataset_folder([days], target, config, workers=2)
    assert sorted(path.name for path in target.parent.iterdir()) == [at_work.name, other.name, "d"]
    assert manifest == read_dataset(tmp_path / "whole").manifest
    old = target.parent / ".d.89abcdef"
    shutil.copytree(target, old)  # as after a kill between the exchange and the removal
    build_dataset_folder([days], target, config, replace=True)
    assert sorted(path.name for path in target.parent.iterdir()) == [other.name, "d"]


def test_a_folder_that_cannot_be_written_is_told(days: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CaptureError, match=r"d: cannot be written \((Not a directory|File exists)\)"):
        build_dataset_folder([days], tmp_path / "file" / "d", BuildConfig(name="d"))
