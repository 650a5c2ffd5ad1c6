"""Recordings in several files, made of the simulated market's frames."""

import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from lob.captures.layout import recording_path
from lob.captures.rotation import RotatingWriter, RotationPolicy
from lob.instrument import Instrument
from lob.market import MarketConfiguration, SimulatedMarket
from lob.rows import RowPath
from lob.venues import make_decoder

START_NS = 1_700_000_000_000_000_000
INSTRUMENT = Instrument(symbol="BTCUSDT", tick_size="0.10")

MakeWriter = Callable[..., RotatingWriter]
Frames = list[tuple[int, bytes]]


@pytest.fixture(scope="session")
def frames() -> Frames:
    """900 frames of the simulated market, 20 ms apart: a snapshot, then changes."""
    market = SimulatedMarket(MarketConfiguration(seed=9))
    return [(START_NS + i * 20_000_000, frame) for i, (_, frame) in enumerate(market.generate(900))]


@pytest.fixture
def make_writer(tmp_path: Path) -> MakeWriter:
    """make_writer(**policy): a writer of files in `tmp_path`."""

    def make(directory: Path = tmp_path, *, flush_ns: int = 10**9, **policy: int | None) -> RotatingWriter:
        return RotatingWriter(
            RowPath(make_decoder("bybit"), INSTRUMENT, depth=50),
            depth=50,
            name_file=lambda receive_ns: recording_path(directory, receive_ns),
            created_ns=START_NS,
            policy=RotationPolicy(**({"every_s": None, "file_bytes": None} | policy)),
            source="a simulated market",
            flush_ns=flush_ns,
        )

    return make


@pytest.fixture
def recorded(tmp_path: Path, make_writer: MakeWriter, frames: Frames) -> list[Path]:
    """`frames` in six files of three seconds each."""
    with make_writer(every_s=3) as writer:
        write(writer, frames)
    return sorted(tmp_path.glob("*.zst"))


def write(writer: RotatingWriter, frames: Iterable[tuple[int, bytes]]) -> None:
    for receive_ns, frame in frames:
        writer.record(receive_ns, frame)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 800 kB, mounted for the test; needs the right to mount."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=800k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a small file system here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
