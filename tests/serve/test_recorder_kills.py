"""kill -9 of `mambalob record` at random moments: what is left opens, is closed, and then verifies."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from websockets.asyncio.server import ServerConnection, serve

from lob.captures import open_captures
from lob.captures.index import read_index
from lob.captures.layout import capture_files
from lob.market import MarketConfiguration, SimulatedMarket

FRAMES_A_SECOND = 500


class MarketServer:
    """Bybit's stream on a thread of its own: a snapshot at each subscription, then a change every 2 ms."""

    def __init__(self) -> None:
        market = SimulatedMarket(MarketConfiguration(seed=3))
        self.frames = [frame for _, frame in market.generate(6_000)]
        self.sent: list[tuple[int, bytes]] = []
        """Every frame of the newest connection and when it was sent."""
        self.all_sent: list[bytes] = []
        """Every frame of all connections; on a slow machine the market ends and is subscribed to again."""
        self.url = ""
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    async def _run(self) -> None:
        async with serve(self._handle, "127.0.0.1", 0, compression=None, close_timeout=0.1) as server:
            host, port = server.sockets[0].getsockname()
            self.url = f"ws://{host}:{port}/v5/public/linear"
            self._ready.set()
            await self._stop.wait()

    async def _handle(self, connection: ServerConnection) -> None:
        request = json.loads(await connection.recv())
        sent = self.sent = []
        reply = {
            "success": True,
            "ret_msg": "",
            "conn_id": "t",
            "op": "subscribe",
            "req_id": request["req_id"],
        }
        await self._send(connection, sent, json.dumps(reply).encode())
        began_s = self._loop.time()
        for number, frame in enumerate(self.frames):
            await self._send(connection, sent, frame)
            await asyncio.sleep(max(0, began_s + number / FRAMES_A_SECOND - self._loop.time()))

    async def _send(self, connection: ServerConnection, sent: list[tuple[int, bytes]], frame: bytes) -> None:
        await connection.send(frame, text=True)
        sent.append((time.time_ns(), frame))
        self.all_sent.append(frame)

    def __enter__(self) -> "MarketServer":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def market_server() -> Iterator[MarketServer]:
    with MarketServer() as server:
        yield server


def start_recorder(root: Path, url: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "mambalob", "record", "--symbol", "BTCUSDT", "--tick-size", "0.10"),
            *("--into", str(root), "--url", url, "--rotate-s", "1", "--rotate-mib", "0.03"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill_at_random(root: Path, server: MarketServer, random: Random) -> float | None:
    """Start a recorder and kill it; the seconds of sent frames that are lost, None where none were flushed.

    A third of the kills come at any time from the start on, the others while frames come in.
    """
    server.sent = []
    known = {path.name.removesuffix(".part") for path in root.rglob("*.zst*")}
    process = start_recorder(root, server.url)
    try:
        if random.random() < 1 / 3:
            time.sleep(random.uniform(0.0, 3.0))
        else:
            deadline = time.monotonic() + 60
            while not server.sent and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(random.uniform(0.0, 2.5))
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    sent = list(server.sent)
    left = [*sorted(root.rglob("*.zst")), *root.rglob("*.zst.part")]
    mine = [path for path in left if path.name.removesuffix(".part") not in known and path.stat().st_size]
    frames = [frame for _, frame in open_captures(mine)] if mine else []
    assert frames == [frame for _, frame in sent[: len(frames)]]  # as they came, in order, and no others
    if len(sent) == len(frames):
        return 0.0 if sent else None
    return (sent[-1][0] - sent[len(frames)][0]) / 1e9


@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_whatever_the_moment_every_file_opens_and_verifies(
    tmp_path: Path, market_server: MarketServer, kills: int
) -> None:
    random = Random(kills)
    root = tmp_path / "captures"
    lost_s = [kill_at_random(root, market_server, random) for _ in range(kills)]
    recorded_s = [seconds for seconds in lost_s if seconds is not None]
    assert len(recorded_s) >= kills / 3
    assert max(recorded_s) <= 1.0
    verify = [sys.executable, "-m", "mambalob", "record", "--verify", "--json", str(root)]
    before = subprocess.run(verify, capture_output=True, text=True)
    assert before.returncode == (1 if list(root.rglob("*.part")) else 0)
    after = subprocess.run([*verify, "--salvage"], capture_output=True, text=True)
    assert after.returncode == 0, after.stdout + after.stderr
    reports = [json.loads(line) for line in after.stdout.splitlines()]
    assert not any(report["faults"] or report["breaks"] for report in reports)
    files = capture_files([root], parts=True)
    assert [report["path"] for report in reports] == list(map(str, files))
    assert not [path for path in files if path.suffix == ".part"]
    indexes = [index for path in files if (index := read_index(path)) is not None]
    print(
        f"{kills} kills, {len({index.recording for index in indexes})} recordings, {len(files)} files, "
        f"{sum(index.frames for index in indexes):,} frames, "
        f"{sum(index.salvaged for index in indexes)} without end; lost at most {max(recorded_s):.3f} s"
    )


def test_two_recorders_do_not_meet_in_one_folder(tmp_path: Path, market_server: MarketServer) -> None:
    first = start_recorder(tmp_path, market_server.url)
    try:
        deadline = time.monotonic() + 60
        while not market_server.sent and time.monotonic() < deadline:
            time.sleep(0.01)
        second = subprocess.run(
            [
                *(sys.executable, "-m", "mambalob", "record", "--symbol", "BTCUSDT", "--tick-size", "0.10"),
                *("--into", str(tmp_path), "--url", market_server.url),
            ],
            capture_output=True,
            text=True,
        )
        assert second.returncode == 1
        assert "another process like this one is at work there; one at a time" in second.stderr
        verify = [sys.executable, "-m", "mambalob", "record", "--verify", str(tmp_path)]
        assert subprocess.run([*verify, "--salvage"], capture_output=True).returncode == 1
    finally:
        first.send_signal(signal.SIGINT)
        assert first.wait(20) == 0
    whole = subprocess.run(verify, capture_output=True, text=True)
    assert whole.returncode == 0, whole.stdout
    files = capture_files([tmp_path])
    frames = [frame for _, frame in open_captures(files)]
    assert frames == market_server.all_sent[: len(frames)]
    assert len(frames) >= len(market_server.all_sent) - 100
