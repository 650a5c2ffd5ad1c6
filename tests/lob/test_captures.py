"""Captures: real files of every format, damage of every kind, bounded memory."""

import gzip
import json
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import zstandard

from lob.captures import CapturedFrame, InstrumentHint, open_capture, open_captures
from lob.errors import CaptureError, InputError

BYBIT_SPOT = "bybit/spot_btcusdt_cpp_trading_core/orderbook50_btcusdt_1000frames_20260808.ndjson"
BYBIT_ARCHIVE = "bybit/linear_xrpusdt_ob500_nautilus/xrpusdt-ob500.data.zip"
BYBIT_LINES = [
    b'{"success":true,"ret_msg":"subscribe","conn_id":"c","op":"subscribe"}',
    b'{"topic":"orderbook.50.BTCUSDT","ts":1700000000001,"type":"snapshot","data":{}}',
    b'{"topic":"orderbook.50.BTCUSDT","ts":1700000000021,"type":"delta","data":{}}',
]
BINANCE_LINES = [
    b'1700000000000000001 {"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","s":"BTCUSDT","u":1}}',
    b'1700000000000000002 {"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","s":"BTCUSDT","u":2}}',
    b'1700000000000000003 {"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","s":"BTCUSDT","u":3}}',
]


def write(path: Path, lines: list[bytes]) -> Path:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def read_until_error(path: Path) -> tuple[list[CapturedFrame], str]:
    frames = []
    with pytest.raises(CaptureError) as raised:  # noqa: PT012 - what precedes the error is asserted too
        for frame in open_capture(path):
            frames.append(frame)  # noqa: PERF402
    return frames, str(raised.value)


# --- the real captures


def test_plain_bybit_frames_are_the_file_s_own_lines(data_dir: Path) -> None:
    path = data_dir / BYBIT_SPOT
    capture = open_capture(path)
    frames = list(capture)
    assert capture.venue == "bybit"
    assert capture.instruments == (InstrumentHint(symbol="BTCUSDT"),)
    assert [frame.frame for frame in frames] == path.read_bytes().splitlines()
    stamps = [json.loads(frame.frame).get("ts") for frame in frames]
    assert stamps[0] is None  # the acknowledgement takes the snapshot's time
    assert [frame.receive_ns for frame in frames] == [ts * 1_000_000 for ts in [stamps[1], *stamps[1:]]]


def test_archive_zip_yields_its_member_s_lines(data_dir: Path) -> None:
    path = data_dir / BYBIT_ARCHIVE
    capture = open_capture(path)
    with zipfile.ZipFile(path) as archive:
        expected = archive.read(archive.namelist()[0]).splitlines()
    assert [frame.frame for frame in capture] == expected
    assert capture.venue == "bybit"
    assert capture.instruments == (InstrumentHint(symbol="XRPUSDT"),)


@pytest.mark.parametrize(
    ("name", "symbol", "unit_ns"),
    [
        ("usdm_btcusdt_20240718.gz", "BTCUSDT", 1),
        ("cm_btcusd_perp_20240808.gz", "BTCUSD_PERP", 1),
        ("spot_nexousdt_20240723.dat.gz", "NEXOUSDT", 1_000),
    ],
)
def test_binance_streams_are_split_at_the_first_space(
    data_dir: Path, name: str, symbol: str, unit_ns: int
) -> None:
    path = data_dir / "binance" / name
    capture = open_capture(path)
    assert (capture.venue, capture.instruments) == ("binance", (InstrumentHint(symbol=symbol),))
    with gzip.open(path) as lines:
        for frame, line in zip(capture, lines, strict=True):
            stamp, text = line.rstrip(b"\n").split(b" ", 1)
            assert frame == (int(stamp) * unit_ns, text)


def test_two_days_make_one_capture(data_dir: Path) -> None:
    paths = [data_dir / "binance" / f"usdm_btcusdt_202407{day}.gz" for day in (18, 19)]
    both = open_captures(paths)
    separate = [frame for path in paths for frame in open_capture(path)]
    assert list(both) == separate
    assert both.instruments == (InstrumentHint(symbol="BTCUSDT"),)


def test_a_capture_can_be_read_again(data_dir: Path) -> None:
    capture = open_capture(data_dir / BYBIT_SPOT)
    assert list(capture) == list(capture)


# --- every container around every kind of line


@pytest.mark.parametrize("lines", [BYBIT_LINES, BINANCE_LINES], ids=["bybit", "binance"])
@pytest.mark.parametrize("container", ["plain", "gzip", "zstd", "zstd frames", "zip"])
def test_container_and_lines_are_told_apart_by_content(
    tmp_path: Path, lines: list[bytes], container: str
) -> None:
    path = tmp_path / "no-telling-name"
    text = b"".join(line + b"\n" for line in lines)
    if container == "plain":
        path.write_bytes(text)
    elif container == "gzip":
        path.write_bytes(gzip.compress(text[:100]) + gzip.compress(text[100:]))
    elif container == "zstd":
        path.write_bytes(zstandard.compress(text))
    elif container == "zstd frames":
        path.write_bytes(zstandard.compress(text[:100]) + zstandard.compress(text[100:]))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("day.data", text)
    capture = open_capture(path)
    expected = lines if capture.venue == "bybit" else [line.split(b" ", 1)[1] for line in lines]
    assert [frame.frame for frame in capture] == expected


def test_windows_line_endings_and_a_missing_last_one(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(b"\r\n".join(BYBIT_LINES))
    assert [frame.frame for frame in open_capture(path)] == BYBIT_LINES


@pytest.mark.parametrize(("digits", "unit_ns"), [(13, 1_000_000), (16, 1_000), (19, 1)])
def test_timestamps_are_told_apart_by_magnitude(tmp_path: Path, digits: int, unit_ns: int) -> None:
    stamp = b"1700000000000000000"[:digits]
    path = write(tmp_path / "capture", [stamp + b' {"lastUpdateId": 7, "bids": [], "asks": []}'])
    (frame,) = open_capture(path)
    assert frame == (int(stamp) * unit_ns, b'{"lastUpdateId": 7, "bids": [], "asks": []}')


def test_several_symbols_give_no_single_hint(tmp_path: Path) -> None:
    other = BYBIT_LINES[1].replace(b"BTCUSDT", b"ETHUSDT")
    capture = open_capture(write(tmp_path / "capture", [*BYBIT_LINES, other]))
    assert capture.instruments == (InstrumentHint(symbol="BTCUSDT"), InstrumentHint(symbol="ETHUSDT"))


# --- damage: all that precedes it is delivered, and the error names file, line and expectation


def test_cut_gzip(tmp_path: Path) -> None:
    lines = [b'%d {"stream":"s","data":{"u":%d}}' % (1_700_000_000_000_000_000 + i, i) for i in range(20_000)]
    path = tmp_path / "day.gz"
    whole = gzip.compress(b"".join(line + b"\n" for line in lines))
    path.write_bytes(whole[: len(whole) // 2])
    frames, message = read_until_error(path)
    assert 1_000 < len(frames) < 20_000
    assert [frame.frame for frame in frames] == [line.split(b" ", 1)[1] for line in lines[: len(frames)]]
    assert f"{path}: line {len(frames) + 1}:" in message
    assert "cut" in message


def test_cut_zstandard(tmp_path: Path) -> None:
    path = tmp_path / "capture.zst"
    numbered = [b'{"topic":"orderbook.50.X","ts":%d}' % i for i in range(200_000)]
    whole = zstandard.compress(b"".join(line + b"\n" for line in numbered))
    path.write_bytes(whole[:-100])
    frames, message = read_until_error(path)
    assert len(frames) > 1_000
    assert [frame.frame for frame in frames] == numbered[: len(frames)]
    assert f"{path}: line {len(frames) + 1}:" in message
    assert "cut" in message


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_flipped_bits(tmp_path: Path, compress: object) -> None:
    assert callable(compress)
    lines = [b'{"topic":"orderbook.50.X","ts":%d,"data":"%x"}' % (i, i * i * i) for i in range(50_000)]
    whole = bytearray(compress(b"".join(line + b"\n" for line in lines)))
    middle = len(whole) // 2
    for i in range(middle, middle + 64):
        whole[i] ^= 0x5A
    path = tmp_path / "capture"
    path.write_bytes(whole)
    frames, message = read_until_error(path)
    assert len(frames) > 1_000
    assert f"{path}: line" in message


def test_zip_without_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "day.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("day.data", b"\n".join(BYBIT_LINES))
    path.write_bytes(path.read_bytes()[:-30])
    frames, message = read_until_error(path)
    assert (frames, f"{path}: line 1: damaged compressed data" in message) == ([], True)


def test_zip_with_a_wrong_checksum(tmp_path: Path) -> None:
    path = tmp_path / "day.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("day.data", b"\n".join([*BYBIT_LINES] * 2000))
    content = path.read_bytes()
    at = content.rindex(b"1700000000021")
    path.write_bytes(content[:at] + b"1700000000022" + content[at + 13 :])
    frames, message = read_until_error(path)
    assert len(frames) > 1_000
    assert "CRC" in message


def test_zip_of_several_files(tmp_path: Path) -> None:
    path = tmp_path / "day.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.data", b"\n".join(BYBIT_LINES))
        archive.writestr("b.data", b"\n".join(BYBIT_LINES))
    with pytest.raises(
        CaptureError, match=r"day\.zip: line 1: expected a zip archive of one file, got one of 2"
    ):
        open_capture(path)


@pytest.mark.parametrize(
    ("lines", "bad"),
    [
        (BYBIT_LINES, b'{"topic":"orderbook.50.BTCUSDT","ts":17000'),
        (BYBIT_LINES, b"not json"),
        (BYBIT_LINES, b'["topic"]'),
        (BYBIT_LINES, b"[" * 100_000),
        (BYBIT_LINES, b'{"topic":"\xff"}'),
        (BYBIT_LINES, b""),
        (BINANCE_LINES, b'170000000000000000 {"stream":"eighteen digits"}'),
        (BINANCE_LINES, b'1700000000000000003{"stream":"no space"}'),
        (BINANCE_LINES, b'1700000000000000003 {"stream":"cut'),
        (BINANCE_LINES, BYBIT_LINES[1]),
    ],
)
def test_a_line_of_another_shape(tmp_path: Path, lines: list[bytes], bad: bytes) -> None:
    path = write(tmp_path / "capture", [*lines, bad, lines[-1]])
    frames, message = read_until_error(path)
    assert len(frames) == len(lines)
    assert f"{path}: line {len(lines) + 1}: expected" in message


def test_a_bad_line_far_from_the_start(tmp_path: Path) -> None:
    path = write(tmp_path / "capture", [*[BYBIT_LINES[2]] * 5_000, b"oops"])
    frames, message = read_until_error(path)
    assert len(frames) == 5_000
    assert "line 5001" in message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"hello\n",
        b"\x00\x01\x02\x03",
        b'{"name": "x", "raw": "{}"}\n',
        b"PK\x03\x04",
        b"\x1f\x8b\x08",
    ],
)
def test_files_that_are_no_capture(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "something"
    path.write_bytes(content)
    with pytest.raises(CaptureError, match=r"something: line 1: "):
        open_capture(path)


def test_a_missing_file_and_a_directory(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="no such file"):
        open_capture(tmp_path / "nothing")
    with pytest.raises(CaptureError, match="is a directory"):
        open_capture(tmp_path)


def test_files_of_different_venues_and_no_files(tmp_path: Path) -> None:
    bybit = write(tmp_path / "bybit", BYBIT_LINES)
    binance = write(tmp_path / "binance", BINANCE_LINES)
    with pytest.raises(CaptureError, match="of one venue"):
        open_captures([bybit, binance])
    with pytest.raises(InputError, match="none given"):
        open_captures([])


def test_foreign_real_files_are_refused(data_dir: Path) -> None:
    for name in (
        "bitmex/20200310_orderbook10.csv.gz",
        "bybit/spot_messages_gocryptotrader/push_messages.jsonl",
    ):
        with pytest.raises(CaptureError, match="line 1: expected"):
            open_capture(data_dir / name)


# --- bombs


def bomb(container: str) -> bytes:
    """Half a gigabyte of one line, a few tens of kilobytes packed."""
    if container == "zstd":
        compressor = zstandard.ZstdCompressor().compressobj()
        return (
            b"".join(compressor.compress(b'{"a":"' + b"x" * (1 << 20)) for _ in range(512))
            + compressor.flush()
        )
    block = b'{"a":"' + b"x" * (1 << 20)
    return gzip.compress(block * 512, compresslevel=1)


@pytest.mark.parametrize("container", ["zstd", "gzip"])
def test_an_absurdly_long_line_costs_little_memory(tmp_path: Path, container: str) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(bomb(container))
    tracemalloc.start()
    try:
        with pytest.raises(CaptureError, match="line 1: expected lines of at most"):
            open_capture(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "long.zst"
    with path.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as writer:
        for i in range(100_000):
            writer.write(b'{"topic":"orderbook.50.X","ts":%d,"data":"%s"}\n' % (i, b"y" * 500))
    tracemalloc.start()
    try:
        count = sum(1 for _ in open_capture(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 100_000
    assert peak < 40 << 20
