"""Binance's streams recorded, trades beside the book: what was written replays to the venue's own book."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from lob.captures import Capture, open_capture, open_captures
from lob.captures.index import read_index
from lob.captures.inspection import rows_digest
from lob.captures.layout import capture_files
from lob.captures.rotation import RotationPolicy
from lob.instrument import Instrument
from lob.row_status import RowStatus
from lob.rows import RowPath
from lob.venues import make_decoder
from mambalob import main
from serve.feed_policies import ResyncPolicy
from serve.reconnect import ReconnectPolicy
from serve.recorder import Recorder, RecorderConfig, RecordingSummary
from serve.verification import verify_captures
from tests.serve.binance_market import BinanceMarket, run_binance_market
from training.builder import BuildConfig, build_dataset_folder
from training.dataset import ARRAYS, read_dataset

pytestmark = pytest.mark.anyio

INSTRUMENT = Instrument(symbol="BTCUSDT", tick_size="0.10")
APPLIED = {RowStatus.ROW, RowStatus.SNAPSHOT, RowStatus.NO_ROW}


async def record(market: BinanceMarket, root: Path, until, **options) -> RecordingSummary:
    """Record into `root`, in files of some 30 kB, until `until(recorder)`."""
    settings: dict[str, Any] = {
        "url": market.url,
        "instrument": INSTRUMENT,
        "venue": "binance",
        "category": market.category,
        "trades": True,
        "root": root,
        "stall_ms": 5_000,
        "rotation": RotationPolicy(every_s=None, file_bytes=30_000),
        "reconnect": ReconnectPolicy(initial_s=0.02, factor=1, cap_s=0.02),
        "resync": ResyncPolicy(minimum_interval_s=0.05),
    }
    recorder = Recorder(RecorderConfig(**(settings | options)))
    running = asyncio.create_task(recorder.run())
    async with asyncio.timeout(60):
        while not until(recorder):
            await asyncio.sleep(0.01)
            assert not running.done() or running.result()
    recorder.stop()
    return await asyncio.wait_for(running, 10)


def books(capture: Capture) -> tuple[dict[int, int], list[RowStatus]]:
    """The digest of the replayed book at each update, and each frame's status."""
    rows = RowPath(make_decoder("binance"), INSTRUMENT)
    digests, statuses = {}, []
    for receive_ns, frame in capture:
        statuses.append(rows.on_frame(frame, receive_ns))
        if statuses[-1] in APPLIED:
            digests[rows.update_id] = rows_digest(rows)
    return digests, statuses


@pytest.mark.parametrize("category", ["linear", "spot"])
async def test_what_was_recorded_replays_to_the_venues_own_book(tmp_path: Path, category: str) -> None:
    with run_binance_market(category) as market:
        summary = await record(market, tmp_path, lambda recorder: recorder._writer.files >= 4)
    folder = tmp_path / "binance" / category / "BTCUSDT" / "depth"
    files = capture_files([folder])
    assert len(files) == summary.files >= 4
    assert (summary.gaps, summary.lost_books, summary.connections) == (0, 0, 1)
    assert summary.trades > 20
    reports = verify_captures([tmp_path])
    assert all(report.is_whole(allow_gaps=False) for report in reports), reports
    assert sum(report.index.trades for report in reports) == summary.trades
    together, _ = books(open_captures(files))
    assert len(together) > 500
    assert together.items() <= market.digests.items()
    for path in files[1:]:  # each alone, from the book it states
        alone, statuses = books(open_capture(path))
        assert statuses[0] is RowStatus.SNAPSHOT
        assert not {RowStatus.WAITING, RowStatus.GAP} & set(statuses)
        assert alone.items() <= market.digests.items()

    run = CliRunner().invoke
    names = list(map(str, files))
    replayed = run(main, ["replay", *names, "--venue", "binance", "--emit", "book"])
    assert replayed.exit_code == 0, replayed.stderr
    assert {json.loads(line)["update_id"] for line in replayed.stdout.splitlines()} == together.keys()
    joined = run(main, ["replay", *names, "--emit", "trades", "--json"])
    lines = [json.loads(line) for line in joined.stdout.splitlines()]
    found = [(line, trade) for line in lines for trade in line["trades"]]
    counts = json.loads(joined.stderr.splitlines()[-1])["trades"]
    assert counts["trades"] == summary.trades == len(found) + counts["waiting"]
    for line, trade in found:
        assert trade["exchange_ms"] == market.trades[trade["trade_id"]] <= line["exchange_ms"]
        assert trade["price"] == 60_000.1

    for workers in (1, 2):
        config = BuildConfig(name="binance", sampling="every_message")
        manifest = build_dataset_folder([folder], tmp_path / f"d{workers}", config, workers=workers)
        assert (manifest.rows, manifest.segments) == (len(lines), 1)
    one, two = read_dataset(tmp_path / "d1"), read_dataset(tmp_path / "d2")
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


async def test_a_snapshot_too_old_to_be_joined_is_no_gap_and_asked_for_again(tmp_path: Path) -> None:
    with run_binance_market() as market:
        await asyncio.sleep(0.1)  # the market moves on from its first snapshot
        market.stale_snapshots = 2
        summary = await record(market, tmp_path, lambda recorder: recorder._writer.files >= 2)
    assert (summary.gaps, summary.lost_books) == (0, 0)
    assert summary.resyncs >= 2
    assert {report.is_whole(allow_gaps=False) for report in verify_captures([tmp_path])} == {True}
    digests, statuses = books(open_captures(capture_files([tmp_path])))
    assert digests.items() <= market.digests.items()
    # One that comes before the first change is a book, which that change does not go on with.
    of_book = [status for status in statuses if status is not RowStatus.NOT_BOOK]
    went_on = [
        then is not RowStatus.GAP for status, then in pairwise(of_book) if status is RowStatus.SNAPSHOT
    ]
    assert went_on.count(True) == 1


async def test_a_lost_change_is_a_gap_and_a_new_snapshot_mends_it(tmp_path: Path) -> None:
    with run_binance_market() as market:
        market.drop = {400}
        summary = await record(market, tmp_path, lambda recorder: recorder._consumer.snapshots >= 2)
    assert (summary.gaps, summary.lost_books, summary.snapshots, summary.connections) == (1, 1, 2, 1)
    reports = verify_captures([tmp_path])
    (told,) = [text for report in reports for text in report.breaks]
    lost = 5_000 + 3 * 401  # a message holds three updates
    assert told.endswith(f": updates {lost - 2} to {lost} are missing")
    digests, _ = books(open_captures(capture_files([tmp_path])))
    assert digests.items() <= market.digests.items()
    assert max(digests) > lost


async def test_a_file_that_begins_while_the_book_is_unknown_is_read_like_the_others(tmp_path: Path) -> None:
    small = RotationPolicy(every_s=None, file_bytes=9_000)
    with run_binance_market() as market:
        await asyncio.sleep(0.1)
        market.stale_snapshots = 10**9

        def enough(recorder: Recorder) -> bool:
            if recorder._writer.files == 3:
                market.stale_snapshots = 0
            return recorder._writer.files >= 5

        summary = await record(market, tmp_path, enough, rotation=small)
    files = capture_files([tmp_path])
    indexes = [read_index(path) for path in files]
    assert indexes[1].checkpoint_update_id is None
    assert indexes[-1].checkpoint_update_id is not None
    assert (summary.gaps, summary.lost_books) == (0, 0)
    reports = verify_captures([tmp_path])
    assert {report.is_whole(allow_gaps=True) for report in reports} == {True}, reports
    for report in reports:
        assert report.is_whole(allow_gaps=False) is report.index.holds_book
    assert not reports[1].index.holds_book
    for capture in (open_captures(files), *map(open_capture, files)):
        assert books(capture)[0].items() <= market.digests.items()


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_killed_at_any_moment_what_is_left_is_the_venues_book(tmp_path: Path, kills: int) -> None:
    random = Random(kills)
    root = tmp_path / "captures"
    command = [sys.executable, "-m", "mambalob", "record"]
    with run_binance_market() as market:
        for _ in range(kills):
            sent = market.sent
            process = subprocess.Popen(
                [
                    *(
                        *command,
                        "--venue",
                        "binance",
                        "--trades",
                        "--symbol",
                        "BTCUSDT",
                        "--tick-size",
                        "0.10",
                    ),
                    *("--into", str(root), "--url", market.url, "--rotate-s", "1", "--rotate-mib", "0.03"),
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                deadline_s = time.monotonic() + 60
                while market.sent == sent and time.monotonic() < deadline_s:
                    time.sleep(0.01)
                time.sleep(random.uniform(0.0, 2.5))
            finally:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
    verified = subprocess.run(
        [*command, "--verify", "--salvage", "--json", str(root)], capture_output=True, text=True
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
    files = capture_files([root], parts=True)
    assert not [path for path in files if path.suffix == ".part"]
    assert len({read_index(path).recording for path in files}) == kills
    digests, _ = books(open_captures(files))
    assert len(digests) > 50
    assert digests.items() <= market.digests.items()
    assert sum(read_index(path).trades for path in files) > 5
