"""Real captures through the row path, against a dictionary book and against the venue's own best prices."""

import gzip
import json
import random
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lob.instrument import Instrument
from lob.row_status import RowStatus
from lob.rows import RowPath
from lob.schema import LEVELS
from lob.venues import make_decoder

FRAMES_1000 = "orderbook50_btcusdt_1000frames_20260808.ndjson"
ROWS = {RowStatus.ROW, RowStatus.SNAPSHOT}
APPLIED = {*ROWS, RowStatus.NO_ROW}


def bybit_frames(path: Path) -> list[bytes]:
    """The frames of a plain or zipped Bybit capture."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return archive.read(archive.namelist()[0]).splitlines()
    return path.read_bytes().splitlines()


@pytest.mark.parametrize(
    ("file", "symbol", "tick_size", "depth", "messages", "spread_ticks"),
    [
        (
            f"bybit/spot_btcusdt_cpp_trading_core/{FRAMES_1000}",
            "BTCUSDT",
            "0.1",
            50,
            999,
            1.0,
        ),
        ("bybit/linear_xrpusdt_ob500_nautilus/xrpusdt-ob500.data.zip", "XRPUSDT", "0.0001", 500, 50, 1.0),
    ],
)
def test_bybit_capture_equals_a_dictionary_book_level_by_level(
    data_dir: Path,
    make_dictionary_book: Callable[[], Any],
    file: str,
    symbol: str,
    tick_size: str,
    depth: int,
    messages: int,
    spread_ticks: float,
) -> None:
    path = RowPath(make_decoder("bybit"), Instrument(symbol=symbol, tick_size=tick_size))
    dictionary = make_dictionary_book()
    statuses: Counter[RowStatus] = Counter()
    last_top = None
    for frame in bybit_frames(data_dir / file):
        status = path.on_frame(frame, 0)
        statuses[status] += 1
        message = json.loads(frame)
        if "topic" not in message:
            assert status is RowStatus.NOT_BOOK
            continue
        data = message["data"]
        if message["type"] == "snapshot":
            dictionary.replace(data["b"], data["a"])
        else:
            dictionary.change(data["b"], data["a"])
        assert path.book.printed(1_000) == dictionary.best_first(1_000)
        assert (path.update_id, path.exchange_ms, path.gateway_ms) == (
            data["u"],
            message["cts"],
            message["ts"],
        )
        bids, asks = top = dictionary.best_first(LEVELS)
        assert path.mid == pytest.approx((bids[0][0] + asks[0][0]) / 2, rel=1e-15)
        assert status is (
            RowStatus.SNAPSHOT if last_top is None else RowStatus.NO_ROW if top == last_top else RowStatus.ROW
        )
        last_top = top
    assert len(path.book.bids()[0]) == len(path.book.asks()[0]) == depth
    assert statuses[RowStatus.SNAPSHOT] == 1
    assert sum(statuses[status] for status in APPLIED) == messages
    assert path.window.latest()[41] == spread_ticks


@pytest.mark.parametrize("seed", range(4))
def test_damaged_feed_never_leaves_a_wrong_book_usable(
    data_dir: Path, make_dictionary_book: Callable[[], Any], bybit_frame: Callable[..., bytes], seed: int
) -> None:
    """The capture with frames lost, doubled, swapped, cut and spoilt, and a snapshot some time after a loss.

    Whatever happens, a book that calls itself usable is the true book of its `u`, and rows are finite.
    """
    draw = random.Random(seed)
    frames = bybit_frames(data_dir / "bybit/spot_btcusdt_cpp_trading_core" / FRAMES_1000)[1:]
    dictionary = make_dictionary_book()
    truth, snapshots = {}, {}
    for frame in frames:
        data = json.loads(frame)["data"]
        dictionary.change(data["b"], data["a"])
        bids, asks = truth[data["u"]] = dictionary.best_first(1_000)
        snapshots[data["u"]] = bybit_frame(
            data["u"],
            *([(f"{price:.1f}", f"{size:.6f}") for price, size in side] for side in (bids, asks)),
            snapshot=True,
        )
    path = RowPath(make_decoder("bybit"), Instrument(symbol="BTCUSDT", tick_size="0.1"))
    statuses: Counter[RowStatus] = Counter()
    numbers = list(truth)
    for place, frame in enumerate(frames):
        damage = draw.random()
        sent = [frame]
        if damage < 0.01:
            sent = []
        elif damage < 0.02:
            sent = [frame, frame]
        elif damage < 0.03:
            sent = [frames[place - 1], frame, frames[draw.randrange(len(frames))]]
        elif damage < 0.04:
            sent = [frame[: draw.randrange(len(frame))], b"\x00\xff", b"{}"]
        elif damage < 0.05:
            sent = [frame.replace(b'"],["', draw.choice([b'",["', b'"],["-', b'0"],["1e', b'","1"],["']))]
        elif damage < 0.1 and not path.book.usable:
            sent = [snapshots[numbers[place]]]
        for piece in sent:
            status = path.on_frame(piece, 0)
            statuses[status] += 1
            if path.book.usable:
                assert path.book.printed(1_000) == truth[path.update_id]
            if status in ROWS:
                assert np.all(np.isfinite(path.window.latest()))
    assert statuses[RowStatus.GAP] > 3
    assert statuses[RowStatus.WAITING] > 10
    assert statuses[RowStatus.SNAPSHOT] > 3
    assert statuses[RowStatus.ROW] > 100
    assert statuses[RowStatus.NOT_JSON] > 3


@dataclass(frozen=True, kw_only=True)
class BinanceCapture:
    """Files that continue each other, and how many depth updates they hold."""

    files: tuple[str, ...]
    symbol: str
    tick_size: str
    depth_updates: int


BINANCE = {
    "cm_btcusd_perp": BinanceCapture(
        files=("cm_btcusd_perp_20240808.gz", "cm_btcusd_perp_20240809.gz"),
        symbol="BTCUSD_PERP",
        tick_size="0.1",
        depth_updates=44_795,
    ),
    "cm_ethusd_perp": BinanceCapture(
        files=("cm_ethusd_perp_20240808.gz", "cm_ethusd_perp_20240809.gz"),
        symbol="ETHUSD_PERP",
        tick_size="0.01",
        depth_updates=39_155,
    ),
    "usdm_btcusdt": BinanceCapture(
        files=("usdm_btcusdt_20240808.gz",), symbol="BTCUSDT", tick_size="0.1", depth_updates=6_551
    ),
    "usdm_btcusdt_july": BinanceCapture(
        files=("usdm_btcusdt_20240718.gz", "usdm_btcusdt_20240719.gz"),
        symbol="BTCUSDT",
        tick_size="0.1",
        depth_updates=9_022,
    ),
    "spot_btcusdt": BinanceCapture(
        files=("spot_btcusdt_20240808.gz", "spot_btcusdt_20240809.gz"),
        symbol="BTCUSDT",
        tick_size="0.01",
        depth_updates=6_495,
    ),
    "spot_ethusdt": BinanceCapture(
        files=("spot_ethusdt_20240808.gz", "spot_ethusdt_20240809.gz"),
        symbol="ETHUSDT",
        tick_size="0.01",
        depth_updates=6_470,
    ),
    "spot_nexousdt": BinanceCapture(
        files=("spot_nexousdt_20240723.dat.gz", "spot_nexousdt_20240724.dat.gz"),
        symbol="NEXOUSDT",
        tick_size="0.001",
        depth_updates=68_182,
    ),
}


def binance_frames(folder: Path, capture: BinanceCapture) -> Iterator[bytes]:
    """The frames of a capture's files, one after another."""
    for file in capture.files:
        with gzip.open(folder / "binance" / file) as lines:
            for line in lines:
                yield line.split(b" ", 1)[1]


Ticker = tuple[float, float, float, float]
KEPT_TICKERS = 1_000  # those whose `u` the book has yet to reach


@pytest.mark.parametrize("name", BINANCE)
def test_binance_capture_agrees_with_its_book_ticker_and_a_dictionary_book(
    data_dir: Path, make_dictionary_book: Callable[[], Any], name: str
) -> None:
    """At every `u` that a bookTicker and the book share, best prices and sizes are the same.

    At every 41st change the first ten levels are a dictionary book's, and at the end all are: sorting
    thousands of prices at every change would take minutes.
    """
    capture = BINANCE[name]
    path = RowPath(make_decoder("binance"), Instrument(symbol=capture.symbol, tick_size=capture.tick_size))
    dictionary = make_dictionary_book()
    early: list[dict[str, list[list[str]]]] = []
    tickers: dict[int, Ticker] = {}
    statuses: Counter[RowStatus] = Counter()
    updates = agreed = compared = 0

    def check_ticker() -> int:
        ticker = tickers.pop(path.update_id, None)
        if ticker is None or not path.book.usable:
            return 0
        ((bid, bid_size),), ((ask, ask_size),) = path.book.printed(1)
        assert (bid, bid_size, ask, ask_size) == ticker
        return 1

    for frame in binance_frames(data_dir, capture):
        status = path.on_frame(frame, 1_700_000_000_000_000_000)
        statuses[status] += 1
        if b'"bookTicker"' in frame or b"@bookTicker" in frame:
            data = json.loads(frame)["data"]
            if len(tickers) == KEPT_TICKERS:
                tickers.clear()
            tickers[data["u"]] = (float(data["b"]), float(data["B"]), float(data["a"]), float(data["A"]))
            agreed += check_ticker()
        elif b'"depthUpdate"' in frame:
            data = json.loads(frame)["data"]
            updates += 1
            if path.book.usable:
                dictionary.change(data["b"], data["a"])
                agreed += check_ticker()
            else:
                early.append(data)
            if status in ROWS and updates % 41 == 0:
                assert path.book.printed(LEVELS) == dictionary.best_first(LEVELS)
                compared += 1
        elif b'"lastUpdateId"' in frame:
            snapshot = json.loads(frame)
            dictionary.replace(snapshot["bids"], snapshot["asks"])
            for data in early:
                if data["u"] > snapshot["lastUpdateId"]:
                    dictionary.change(data["b"], data["a"])
            assert path.book.printed(LEVELS) == dictionary.best_first(LEVELS)

    assert updates == capture.depth_updates
    assert statuses[RowStatus.SNAPSHOT] == 1
    assert statuses[RowStatus.WAITING] == len(early)
    unsound = {RowStatus.GAP, RowStatus.CROSSED, RowStatus.MALFORMED, RowStatus.OVERFLOW, RowStatus.ONE_SIDED}
    assert not unsound & set(statuses)
    assert path.book.printed(100_000) == dictionary.best_first(100_000)
    assert agreed > 200
    assert compared > 100
