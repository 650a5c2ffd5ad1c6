"""Real frames of real captures in their order, and snapshots to start from anywhere among them."""

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lob.captures import open_capture

CAPTURES = {
    "bybit": (
        "bybit/spot_btcusdt_cpp_trading_core/orderbook50_btcusdt_1000frames_20260808.ndjson",
        "BTCUSDT",
        "0.1",
    ),
    "bybit-full": (
        "bybit/spot_btcusdt_cpp_trading_core/orderbook50_btcusdt_1000frames_20260808.ndjson",
        "BTCUSDT",
        "0.1",
    ),
    "binance-coinm": ("binance/cm_btcusd_perp_20240808.gz", "BTCUSD_PERP", "0.1"),
    "binance-spot": ("binance/spot_btcusdt_20240808.gz", "BTCUSDT", "0.01"),
}
"""File, symbol and tick size of each stream. `bybit-full` has the changes of 50 levels under the whole book's
name, and snapshots as REST answers: the whole book's own messages differ in nothing else."""

FRAMES = 1_500
LEVELS = 20
SNAPSHOT_EVERY = 10
LONGEST = 2_000
"""Bytes; longer real frames are no donors of splices."""


@dataclass(frozen=True)
class FrameStream:
    """`frames` in sequence; `snapshots[i]`, where there is one, is the book just before `frames[i]`.

    Of a `whole` book it is the one just after: the snapshot that joins there.
    `donors` are all frames of the capture, trades and tickers too, for splices.
    """

    venue: str
    symbol: str
    tick_size: str
    frames: list[bytes]
    snapshots: dict[int, bytes]
    donors: list[bytes]
    whole: bool = False


def load_stream(name: str, data_dir: Path, levels: int = LEVELS) -> FrameStream:
    """The stream of that name in `CAPTURES`, with snapshots of so many levels a side."""
    file, symbol, tick_size = CAPTURES[name]
    venue = name.partition("-")[0]
    whole = name == "bybit-full"
    captured = [frame for _, frame in islice(open_capture(data_dir / file), 4 * FRAMES)]
    if whole:
        captured = [frame.replace(b'"orderbook.50.', b'"orderbook.full.') for frame in captured]
    bids: dict[str, str] = {}
    asks: dict[str, str] = {}
    frames: list[bytes] = []
    snapshots: dict[int, bytes] = {}
    started = False
    number = 0
    for frame in captured:
        document = json.loads(frame)
        data = document.get("data", document)
        snapshot = document.get("type") == "snapshot" or "lastUpdateId" in document
        is_change = data.get("s") == symbol and ("U" in data or "seq" in data)
        if not snapshot and not (started and is_change):
            continue
        new_number = data["lastUpdateId"] if "lastUpdateId" in data else data["u"]
        if snapshot:
            bids, asks, started = {}, {}, True
        elif new_number <= number:
            continue
        else:
            if len(frames) % SNAPSHOT_EVERY == 0 and not whole:
                snapshots[len(frames)] = _snapshot(
                    venue, symbol, number, _best(bids, levels, -1), _best(asks, levels, 1), len(frames)
                )
            frames.append(frame)
        number = new_number
        for side, keys in ((bids, ("b", "bids")), (asks, ("a", "asks"))):
            for price, size in data[keys[0]] if keys[0] in data else data[keys[1]]:
                if float(size) == 0:
                    side.pop(price, None)
                else:
                    side[price] = size
        if whole and not snapshot and (len(frames) - 1) % SNAPSHOT_EVERY == 0:
            best = (_best(bids, levels, -1), _best(asks, levels, 1))
            snapshots[len(frames) - 1] = _answer(symbol, number, data["seq"], *best)
        if len(frames) == FRAMES:
            break
    donors = [frame for frame in captured if len(frame) <= LONGEST]
    if whole:
        donors += [one for one in snapshots.values() if len(one) <= LONGEST]
    return FrameStream(venue, symbol, tick_size, frames, snapshots, donors, whole)


def _best(side: dict[str, str], levels: int, sign: int) -> list[tuple[str, str]]:
    """The best levels of a side, best first; `sign` is -1 for bids."""
    return sorted(side.items(), key=lambda level: sign * float(level[0]))[:levels]


def _answer(
    symbol: str,
    number: int,
    sequence: int,
    best_bids: list[tuple[str, str]],
    best_asks: list[tuple[str, str]],
) -> bytes:
    """The whole book as REST answers it."""
    result = {"s": symbol, "b": best_bids, "a": best_asks, "ts": 2, "u": number, "seq": sequence, "cts": 1}
    answer = {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": 3}
    return json.dumps(answer, separators=(",", ":")).encode()


def _snapshot(
    venue: str,
    symbol: str,
    number: int,
    best_bids: list[tuple[str, str]],
    best_asks: list[tuple[str, str]],
    index: int,
) -> bytes:
    if venue == "bybit":
        document = {
            "topic": f"orderbook.50.{symbol}",
            "ts": 1_700_000_000_000 + index,
            "type": "snapshot",
            "data": {"s": symbol, "b": best_bids, "a": best_asks, "u": number, "seq": index},
            "cts": 1_700_000_000_000 + index,
        }
    else:
        document = {"lastUpdateId": number, "bids": best_bids, "asks": best_asks}
    return json.dumps(document, separators=(",", ":")).encode()
