"""The simulated market: valid Bybit frames, one market per seed, a future that its past helps to foresee."""

import json
import os
import subprocess
import sys
from itertools import islice, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lob.bybit import BybitDecoder
from lob.errors import InputError
from lob.market import INTERVAL_MS, MarketConfiguration, SimulatedMarket
from lob.market_flow import (
    ASK,
    BID,
    HIDDEN_SLOTS,
    TOUCH_SLOTS,
    TRADE_COLUMNS,
    Flow,
    State,
    advance,
    advance_until,
    open_book,
)
from lob.market_publication import (
    ASKS_END,
    BEGIN,
    BIDS_END,
    EVENT_US,
    MESSAGE_COLUMNS,
    SENT_US,
    Batch,
    Feeds,
    Published,
    publish_side,
    run,
    top_levels,
)
from lob.messages import BookUpdate
from lob.row_status import RowStatus
from lob.rows import RowPath

COUNT = 3_000 if os.environ.get("NUMBA_DISABLE_JIT") != "1" else 300

Side = dict[float, float]


def market(**changes: Any) -> SimulatedMarket:
    return SimulatedMarket(MarketConfiguration(**changes))


def apply(side: Side, levels: list[list[str]], reverse: bool) -> None:
    """Bybit's rules for a delta, and what it may hold: sorted, no change without a difference."""
    prices = [float(price) for price, _ in levels]
    assert prices == sorted(set(prices), reverse=reverse)
    for price, size in levels:
        if float(size) == 0:
            assert size == "0"
            del side[float(price)]  # fails for a level that is not there
        else:
            assert side.get(float(price)) != float(size)
            side[float(price)] = float(size)


@pytest.mark.parametrize("depth", [50, 200])
def test_frames_are_bybit_s(depth: int) -> None:
    bids: Side = {}
    asks: Side = {}
    previous = None
    for exchange_ms, frame in market(depth=depth, seed=3).generate(COUNT):
        message = json.loads(frame)
        data = message["data"]
        assert list(message) == ["topic", "type", "ts", "data", "cts"]
        assert list(data) == ["s", "b", "a", "u", "seq"]
        assert (message["topic"], data["s"]) == (f"orderbook.{depth}.BTCUSDT", "BTCUSDT")
        assert message["cts"] == exchange_ms
        assert 0 <= message["ts"] - exchange_ms <= INTERVAL_MS[depth] + 4
        assert message["type"] == ("snapshot" if previous is None else "delta")
        if previous is not None:
            assert data["u"] == previous["data"]["u"] + 1
            assert data["seq"] > previous["data"]["seq"]
            assert message["ts"] >= previous["ts"]
            assert exchange_ms >= previous["cts"]
            assert data["b"] or data["a"]
        apply(bids, data["b"], reverse=True)
        apply(asks, data["a"], reverse=False)
        assert max(bids) < min(asks)
        assert len(bids) == len(asks) == depth
        previous = message


def test_our_own_book_takes_every_frame() -> None:
    configuration = MarketConfiguration(seed=1)
    path = RowPath(BybitDecoder(), configuration.instrument, sampling="every_message")
    statuses = [path.on_frame(f.frame, f.receive_ns) for f in SimulatedMarket(configuration).frames(COUNT)]
    assert statuses[0] is RowStatus.SNAPSHOT
    assert set(statuses[1:]) == {RowStatus.ROW}


def test_depth_1_is_snapshots_alone() -> None:
    messages = [json.loads(frame.frame) for frame in market(depth=1).frames(200)]
    assert len(messages) == 200
    for message in messages:
        assert message["type"] == "snapshot"
        assert len(message["data"]["b"]) == len(message["data"]["a"]) == 1


def test_depth_1000_is_full() -> None:
    (first,) = market(depth=1000).frames(1)
    data = json.loads(first.frame)["data"]
    assert len(data["b"]) == len(data["a"]) == 1000


def test_prices_and_sizes_are_on_their_grids() -> None:
    configuration = MarketConfiguration(
        symbol="XRPUSDT", tick_size="0.0001", lot_size="1", first_price="5.0000", seed=2
    )
    books = [json.loads(frame.frame)["data"] for frame in SimulatedMarket(configuration).frames(200)]
    levels = [level for book in books for level in (*book["b"], *book["a"])]
    assert len(levels) > 200
    for price, size in levels:
        assert len(price.split(".")[1]) == 4
        assert size.isdigit()
        configuration.instrument.ticks(price)


# --- one market per seed


def test_the_same_seed_plays_the_same_market() -> None:
    one = market(seed=7)
    assert list(one.generate(COUNT)) == list(market(seed=7).generate(COUNT)) == list(one.generate(COUNT))


def test_frames_and_generate_are_the_same_frames() -> None:
    one = market(seed=7)
    captured = list(one.frames(100))
    assert [frame for _, frame in one.generate(100)] == [frame.frame for frame in captured]
    assert all(before.receive_ns < after.receive_ns for before, after in pairwise(captured))
    assert [json.loads(frame.frame)["ts"] for frame in captured] == [
        frame.receive_ns // 1_000_000 for frame in captured
    ]


def test_another_seed_or_symbol_plays_another_market() -> None:
    first = [
        [json.loads(frame)["data"]["b"] for _, frame in islice(one.generate(), 2)]
        for one in (market(seed=1), market(seed=2), market(seed=1, symbol="ETHUSDT"))
    ]
    assert first[0] != first[1] != first[2] != first[0]


def test_start_time_moves_the_clock_and_nothing_else() -> None:
    early = list(market(start_ms=1_000_000_000_000).frames(50))
    late = list(market(start_ms=1_000_000_005_000).frames(50))
    assert [frame.receive_ns + 5_000_000_000 for frame in early] == [frame.receive_ns for frame in late]
    assert [json.loads(f.frame)["data"] for f in early] == [json.loads(f.frame)["data"] for f in late]


def test_counts() -> None:
    one = market()
    assert [len(list(one.frames(count))) for count in (0, 1, 2, 65, 66)] == [0, 1, 2, 65, 66]


def test_the_kernels_compiled_or_not_play_the_same_market() -> None:
    script = (
        "import hashlib\n"
        "from lob.market import SimulatedMarket\n"
        "print(hashlib.sha256(b''.join(f for _, f in SimulatedMarket().generate(300))).hexdigest())\n"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"NUMBA_DISABLE_JIT": disabled},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for disabled in ("0", "1")
    }
    assert len(digests) == 1


# --- kernels against plain twins


def state(reach: int = 60, flow: Flow | None = None) -> State:
    lots = np.zeros(1 << (4 * reach).bit_length(), np.int64)
    touch, hidden = np.zeros(TOUCH_SLOTS, np.int64), np.zeros(HIDDEN_SLOTS)
    trades = np.zeros((0, TRADE_COLUMNS), np.int64)
    return State(Flow() if flow is None else flow, 600_000, reach, lots, touch, hidden, trades)


def plain_levels(market_state: State, side: int) -> dict[int, int]:
    """All levels of a side by tick, best first."""
    mask = market_state.lots.size - 1
    away = -1 if side == BID else 1
    ticks = [int(market_state.touch[side]) + away * behind for behind in range(market_state.reach + 1)]
    return {tick: int(market_state.lots[tick & mask]) for tick in ticks if market_state.lots[tick & mask]}


def test_the_book_never_crosses_and_forgets_what_is_out_of_reach() -> None:
    rng = np.random.default_rng(5)
    running = state(flow=Flow(market_rate=60.0))  # a wild market
    open_book(rng, running)
    for interval in range(COUNT):
        advance(rng, running, interval * 20_000, 20_000)
        bid, ask = running.touch[BID], running.touch[ASK]
        assert bid < ask
        assert running.lots[bid & (running.lots.size - 1)] > 0
        assert running.lots[ask & (running.lots.size - 1)] > 0
        assert running.lots.min() == 0
        held = sum(plain_levels(running, BID).values()) + sum(plain_levels(running, ASK).values())
        assert running.lots.sum() == held  # nothing inside the spread, nothing out of reach
    assert abs(running.touch[BID] - 600_000) > 2 * running.reach  # the ring was gone round


def test_intervals_in_one_call_are_those_one_by_one() -> None:
    one_by_one, at_once = state(), state()
    drawn: list[float] = []
    for running in (one_by_one, at_once):
        rng = np.random.default_rng(7)
        open_book(rng, running)
        if running is at_once:
            assert advance_until(rng, running, -999_000, 0, 20_000) == 1_000
        else:
            for number in range(50):
                advance(rng, running, -999_000 + number * 20_000, 20_000)
        drawn.append(rng.random())
    assert drawn[0] == drawn[1]
    for field in ("reach", "lots", "touch", "hidden"):
        assert np.array_equal(getattr(at_once, field), getattr(one_by_one, field))


def test_published_changes_turn_the_old_levels_into_the_new() -> None:
    rng = np.random.default_rng(6)
    running, depth = state(), 20
    open_book(rng, running)
    published = Published(
        np.zeros((2, depth), np.int64), np.zeros((2, depth), np.int64), np.zeros(2, np.int64)
    )
    batch = Batch(np.zeros(500, np.int64), np.zeros(500, np.int64), np.zeros((1, MESSAGE_COLUMNS), np.int64))
    kept: list[dict[int, int]] = [{}, {}]
    for interval in range(COUNT // 3):
        advance(rng, running, interval * 20_000, 20_000)
        for side in (BID, ASK):
            end = publish_side(running, side, published, batch, 3)
            expected = dict(islice(plain_levels(running, side).items(), depth))
            changes = dict(zip(batch.ticks[3:end].tolist(), batch.lots[3:end].tolist(), strict=True))
            gone = {tick: 0 for tick in kept[side] if tick not in expected}
            changed = {tick: lots for tick, lots in expected.items() if kept[side].get(tick) != lots}
            assert changes == gone | changed
            assert list(changes) == sorted(changes, reverse=side == BID)
            kept[side] = expected
            count = published.counts[side]
            assert (
                dict(zip(published.ticks[side, :count], published.lots[side, :count], strict=True))
                == expected
            )


def test_top_levels_of_a_thin_side() -> None:
    thin = state()
    thin.touch[BID] = 600_000
    for tick, size in ((600_000, 5), (599_990, 7)):
        thin.lots[tick & (thin.lots.size - 1)] = size
    ticks, lots = np.zeros(10, np.int64), np.zeros(10, np.int64)
    assert top_levels(thin, BID, ticks, lots) == 2
    assert (ticks[:2].tolist(), lots[:2].tolist()) == ([600_000, 599_990], [5, 7])


def test_an_interval_without_a_change_sends_nothing() -> None:
    rng = np.random.default_rng(0)
    quiet = state(flow=Flow(limit_rate=0.5, cancel_rate=0.5, market_rate=0.0, metaorder_rate=0.0))
    open_book(rng, quiet)
    feeds = Feeds(
        depths=np.array([5]),
        intervals_us=np.array([20_000]),
        ticks=np.zeros((1, 2, 5), np.int64),
        lots=np.zeros((1, 2, 5), np.int64),
        counts=np.zeros((1, 2), np.int64),
        sent_us=np.zeros(1, np.int64),
    )
    batch = Batch(
        np.zeros(1000, np.int64), np.zeros(1000, np.int64), np.zeros((6, MESSAGE_COLUMNS), np.int64)
    )
    count, elapsed_us = run(rng, quiet, feeds, batch, 0, 20_000)
    assert count == 5
    messages = batch.messages[:count].T
    assert elapsed_us > 10 * 5 * 20_000
    assert (messages[BEGIN] < messages[ASKS_END]).all()
    assert (messages[BIDS_END] <= messages[ASKS_END]).all()
    assert (messages[EVENT_US] <= messages[SENT_US]).all()
    assert (np.diff(messages[SENT_US]) > 0).all()


# --- bad settings


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"depth": 25}, "depth: 25 .* allowed: 1, 50, 200, 500, 1000"),
        ({"seed": -1}, "seed: -1"),
        ({"tick_size": "-1"}, "tick_size"),
        ({"lot_size": "a lot"}, "a lot"),
        ({"first_price": "60000.01"}, "60000.01"),
        ({"first_price": "10"}, "first_price: 10 is 100 ticks; allowed: 40000 ticks and above"),
        ({"symbol": ""}, "symbol"),
    ],
)
def test_settings_that_are_refused(changes: dict[str, object], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        market(**changes)


# --- predictability


def rank_auc(score: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve by ranks, ties halved."""
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    ones = positive.sum()
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * (len(positive) - ones)))


def linear_auc(inputs: npt.NDArray[np.float64], up: npt.NDArray[np.bool_]) -> float:
    """AUC on the last two fifths of a linear rule fitted on the first three, 100 rows apart."""
    cut = len(up) * 3 // 5
    scaled = (inputs - inputs[:cut].mean(0)) / (inputs[:cut].std(0) + 1e-9)
    train, target = scaled[: cut - 100], np.where(up[: cut - 100], 1.0, -1.0)
    weights = np.linalg.solve(train.T @ train + 10 * np.eye(train.shape[1]), train.T @ target)
    return rank_auc(scaled[cut:] @ weights, up[cut:])


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="needs many messages")
def test_history_foresees_more_than_the_last_row() -> None:
    configuration = MarketConfiguration(seed=11)
    path = RowPath(BybitDecoder(), configuration.instrument)
    rows, mids = [], []
    for captured in SimulatedMarket(configuration).frames(40_000):
        if path.on_frame(captured.frame, captured.receive_ns) in {RowStatus.ROW, RowStatus.SNAPSHOT}:
            rows.append(path.window.latest().astype(np.float64))
            mids.append(path.mid)
    last = np.array(rows)  # (T, 44): microprice, spread, imbalance and flow are its last four columns
    mid = np.array(mids)  # (T,)
    moved = np.count_nonzero(np.diff(mid)) / len(mid)
    assert 1 / 20 < moved < 1 / 5
    assert np.mean(last[:, 41] == 1) > 0.8  # the spread is one tick most of the time

    remembered = []
    for rows_back in (5, 20, 60, 150):
        weights = np.exp(-np.arange(4 * rows_back) / rows_back)
        for column in (42, 43):
            remembered.append(np.convolve(last[:, column], weights)[: len(mid)])  # noqa: PERF401
        remembered.append(mid - np.concatenate([np.full(rows_back, mid[0]), mid[:-rows_back]]))
    history = np.column_stack([last, *remembered])
    total = np.concatenate([[0.0], np.cumsum(mid)])
    for horizon, least_gain in ((10, 0.02), (50, 0.05), (100, 0.05)):
        future = (total[horizon + 1 :] - total[1:-horizon]) / horizon - mid[:-horizon]
        change = np.flatnonzero(np.abs(future) > 1e-9)
        up = future[change] > 0
        microprice = rank_auc(last[change, 40], up)
        one_row, with_history = linear_auc(last[change], up), linear_auc(history[change], up)
        assert 0.55 < microprice < 0.85
        assert with_history > one_row + least_gain
        assert with_history > microprice + least_gain
        assert with_history < 0.95  # and yet no certainty


def test_levels_decode_as_one_update() -> None:
    decoder = BybitDecoder()
    kinds = [type(decoder.decode(frame.frame)) for frame in market().frames(20)]
    assert kinds == [BookUpdate] * 20
