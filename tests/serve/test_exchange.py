"""The local exchange over real sockets: Bybit's words, verbatim frames, slow and hostile clients."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from lob.bybit import BybitDecoder
from lob.captures import Capture, InstrumentHint, RecordingWriter, open_capture, open_captures
from lob.errors import CaptureError, InputError
from lob.instrument import Instrument
from lob.market import MarketConfiguration, SimulatedMarket
from lob.row_status import RowStatus
from lob.rows import RowPath
from mambalob import main
from serve.bybit_stream import Category
from serve.exchange import Exchange, ExchangeConfiguration
from serve.instruments import fetch_instrument
from serve.listing import Listing, capture_listing, simulated_listing
from serve.playback import Pace

pytestmark = pytest.mark.anyio

BYBIT_SPOT = "bybit/spot_btcusdt_cpp_trading_core/orderbook50_btcusdt_1000frames_20260808.ndjson"
BYBIT_ARCHIVE = "bybit/linear_xrpusdt_ob500_nautilus/xrpusdt-ob500.data.zip"
TOPIC = "orderbook.50.BTCUSDT"
MAX = Pace(speed=None)


@asynccontextmanager
async def running(listing: Listing, **changes: Any) -> AsyncIterator[Exchange]:
    """An exchange on a free port; when the block ends all of its connections do."""
    async with Exchange(listing, ExchangeConfiguration(port=0, **changes)) as exchange:
        yield exchange


def simulated(**changes: Any) -> Listing:
    return simulated_listing([MarketConfiguration(seed=3, **changes)])


def recorded(tmp_path: Path, count: int, **changes: Any) -> Capture:
    """A recording of the simulated market."""
    configuration = MarketConfiguration(seed=5, **changes)
    path = tmp_path / f"{configuration.symbol}-{configuration.depth}.zst"
    with RecordingWriter(path, venue="bybit", instruments=[configuration.hint], created_ns=1) as recording:
        for captured in SimulatedMarket(configuration).frames(count):
            recording.write(*captured)
    return open_capture(path)


def client(url: str, **settings: Any) -> connect:
    return connect(url, compression=None, proxy=None, ping_interval=None, close_timeout=0.2, **settings)


class Session:
    """A plain websocket client: answers and pushed frames apart, each in the order they came."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.pushed: list[bytes] = []

    async def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for the answer to it."""
        return await self.send(json.dumps(request))

    async def send(self, message: str | bytes) -> dict[str, Any]:
        await self.connection.send(message)
        while True:
            frame = await self.receive()
            if not frame.startswith(b'{"topic"'):
                return json.loads(frame)
            self.pushed.append(frame)

    async def take(self, count: int) -> list[bytes]:
        """The next `count` pushed frames."""
        while len(self.pushed) < count:
            self.pushed.append(await self.receive())
        taken, self.pushed = self.pushed[:count], self.pushed[count:]
        return taken

    async def rest(self) -> list[bytes]:
        """All pushed frames until the exchange closes the connection."""
        try:
            while True:
                self.pushed.append(await self.receive())
        except ConnectionClosed:
            return self.pushed

    async def receive(self) -> bytes:
        async with asyncio.timeout(20):
            return await self.connection.recv(decode=False)


@asynccontextmanager
async def session(
    exchange: Exchange, category: Category = "linear", **settings: Any
) -> AsyncIterator[Session]:
    async with client(exchange.url(category), **settings) as connection:
        yield Session(connection)


def sides(frames: list[bytes]) -> tuple[int, dict[str, str], dict[str, str]]:
    """u, bids and asks after the frames, by Bybit's rules."""
    bids: dict[str, str] = {}
    asks: dict[str, str] = {}
    update_id = 0
    for frame in frames:
        message = json.loads(frame)
        if message["type"] == "snapshot":
            bids, asks = {}, {}
        else:
            assert message["data"]["u"] == update_id + 1
        for side, levels in ((bids, message["data"]["b"]), (asks, message["data"]["a"])):
            for price, size in levels:
                side[price] = size
                if size == "0":
                    del side[price]
        update_id = message["data"]["u"]
    return update_id, bids, asks


def after(frames: list[bytes], snapshot: bytes) -> list[bytes]:
    """The frames that follow the one with the snapshot's u."""
    update_id = json.loads(snapshot)["data"]["u"]
    at = next(i for i, frame in enumerate(frames) if json.loads(frame)["data"]["u"] == update_id)
    return frames[at + 1 :]


# --- Bybit's words


async def test_linear_s_answers() -> None:
    async with running(simulated()) as exchange, session(exchange) as one:
        answer = await one.ask(op="subscribe", req_id="7", args=[TOPIC])
        connection_id = answer["conn_id"]
        assert answer == {
            "success": True,
            "ret_msg": "",
            "conn_id": connection_id,
            "req_id": "7",
            "op": "subscribe",
        }
        assert list(answer) == ["success", "ret_msg", "conn_id", "req_id", "op"]
        assert connection_id
        assert await one.ask(op="ping") == {
            "success": True,
            "ret_msg": "pong",
            "conn_id": connection_id,
            "req_id": "",
            "op": "ping",
        }
        assert (await one.ask(op="ping", req_id="p"))["req_id"] == "p"
        answer = await one.ask(op="unsubscribe", args=[TOPIC])
        assert answer == {
            "success": True,
            "ret_msg": "",
            "conn_id": connection_id,
            "req_id": "",
            "op": "unsubscribe",
        }


async def test_spot_s_answers() -> None:
    async with running(simulated()) as exchange, session(exchange, "spot") as one:
        answer = await one.ask(op="subscribe", args=[TOPIC])
        assert list(answer) == ["success", "ret_msg", "conn_id", "op"]  # as the captured one
        assert (answer["ret_msg"], answer["op"]) == ("subscribe", "subscribe")
        assert (await one.ask(op="unsubscribe", req_id="1", args=[TOPIC]))["ret_msg"] == "unsubscribe"
        answer = await one.ask(op="ping", req_id="p1")
        assert (answer["ret_msg"], answer["op"], answer["req_id"]) == ("pong", "ping", "p1")


@pytest.mark.parametrize(
    ("category", "topic", "expected"),
    [
        ("linear", "orderbook.50.NOPEUSDT", "error:handler not found,topic:orderbook.50.NOPEUSDT"),
        ("linear", "orderbook.30.BTCUSDT", "error:handler not found,topic:orderbook.30.BTCUSDT"),
        ("inverse", "orderbook.50.btcusdt", "error:handler not found,topic:orderbook.50.btcusdt"),
        ("spot", "orderbook.50.NOSUCHSYM", "Invalid symbol :[orderbook.50.NOSUCHSYM]"),
    ],
)
async def test_an_unknown_topic_fails_the_whole_request(
    category: Category, topic: str, expected: str
) -> None:
    async with running(simulated()) as exchange, session(exchange, category) as one:
        answer = await one.ask(op="subscribe", args=[TOPIC, topic])
        assert (answer["success"], answer["ret_msg"], answer["op"]) == (False, expected, "subscribe")
        assert not exchange.timelines[TOPIC].is_running
        assert (await one.ask(op="subscribe", args=[TOPIC]))["success"]


async def test_refused_requests_change_nothing() -> None:
    async with running(simulated()) as exchange, session(exchange) as one, session(exchange, "spot") as spot:
        assert (await one.ask(op="subscribe", args=[TOPIC]))["success"]
        again = await one.ask(op="subscribe", req_id="2", args=[TOPIC])
        assert (again["success"], again["req_id"]) == (False, "2")
        assert again["ret_msg"] == f"error:already subscribed,topic:{TOPIC}"
        twice = await spot.ask(op="subscribe", args=[TOPIC, TOPIC])
        assert (twice["success"], twice["ret_msg"]) == (False, f"error:already subscribed,topic:{TOPIC}")
        assert (await one.ask(op="subscribe", args=[]))["ret_msg"] == "Params Error"
        assert (await one.ask(op="unsubscribe"))["ret_msg"] == "Params Error"
        assert (await one.ask(op="nope"))["ret_msg"] == "error:invalid op"
        many = await spot.ask(op="subscribe", args=[f"orderbook.50.S{i}" for i in range(11)])
        assert (many["success"], many["ret_msg"]) == (False, "args size >10")
        assert exchange.counters.refused == 6
        assert len(await one.take(3)) == 3  # the first subscription goes on


@pytest.mark.parametrize(
    "message",
    [
        "hello",
        "",
        "[]",
        "null",
        "[" * 20_000,
        '{"op":5}',
        '{"op":"subscribe","args":"orderbook.50.BTCUSDT"}',
        '{"op":"subscribe","args":[1]}',
        '{"args":["orderbook.50.BTCUSDT"]}',
        b"\x00\xff\xfe",
        b'{"op":"\xff"}',
    ],
)
async def test_garbage_is_answered_and_the_connection_goes_on(message: str | bytes) -> None:
    async with running(simulated()) as exchange, session(exchange) as one:
        answer = await one.send(message)
        assert answer["success"] is False
        assert answer["ret_msg"].startswith("Failed to decode incoming data:")
        assert (await one.ask(op="ping"))["ret_msg"] == "pong"


async def test_an_oversized_message_ends_the_connection_and_no_other() -> None:
    async with running(simulated()) as exchange, session(exchange) as one, session(exchange) as other:
        await one.connection.send('{"op":"subscribe","args":["' + "x" * 70_000 + '"]}')
        with pytest.raises(ConnectionClosed) as closed:
            await one.receive()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
        assert (await other.ask(op="ping"))["ret_msg"] == "pong"


async def test_bytes_that_are_no_websocket_leave_the_exchange_standing() -> None:
    async with running(simulated()) as exchange:
        for hostile in (
            b"\x16\x03\x01\x02\x00",
            b"GET / HTTP/9.9\r\n\r\n",
            b"POST /v5 HTTP/1.1\r\n\r\n",
            b"\0" * 9000,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", exchange.port)
            writer.write(hostile)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 5)
            writer.close()
            await writer.wait_closed()
        async with session(exchange) as one:
            assert (await one.ask(op="ping"))["ret_msg"] == "pong"


# --- frames


@pytest.mark.parametrize(("name", "topic"), [(BYBIT_SPOT, TOPIC), (BYBIT_ARCHIVE, "orderbook.500.XRPUSDT")])
async def test_the_first_subscriber_gets_the_capture_byte_for_byte(
    data_dir: Path, name: str, topic: str
) -> None:
    capture = open_capture(data_dir / name)
    expected = [captured.frame for captured in capture if b'"topic"' in captured.frame]
    async with running(capture_listing(capture), pace=MAX, ending="close") as exchange:
        async with session(exchange) as one:
            assert (await one.ask(op="subscribe", args=[topic]))["success"]
            assert await one.rest() == expected
            assert one.connection.close_code == 1000
            assert one.connection.close_reason == "the market has ended"
        await asyncio.wait_for(exchange.ended.wait(), 5)
        assert exchange.failure is None


async def test_rows_of_the_live_stream_equal_those_of_the_replay(data_dir: Path) -> None:
    capture = open_capture(data_dir / BYBIT_SPOT)
    instrument = Instrument(symbol="BTCUSDT", tick_size="0.1")

    def rows(frames: list[bytes]) -> np.ndarray:
        path = RowPath(BybitDecoder(), instrument, sampling="every_message")
        found = [
            path.window.latest().copy() for frame in frames if path.on_frame(frame, 0) <= RowStatus.SNAPSHOT
        ]
        return np.array(found)

    playing = running(capture_listing(capture), pace=Pace(speed=50), ending="close")
    async with playing as exchange, session(exchange) as one:
        await one.connection.send(json.dumps({"op": "subscribe", "args": [TOPIC]}))
        live = rows(await one.rest())
    replayed = rows([captured.frame for captured in capture])
    assert live.shape == (999, 44)
    assert live.tobytes() == replayed.tobytes()


async def test_frames_come_at_the_recorded_pace(data_dir: Path) -> None:
    capture = open_capture(data_dir / BYBIT_ARCHIVE)  # 4.8 s
    clock = asyncio.get_running_loop().time
    async with running(capture_listing(capture), pace=Pace(speed=4)) as exchange, session(exchange) as one:
        start_s = clock()
        await one.ask(op="subscribe", args=["orderbook.500.XRPUSDT"])
        arrived_s = []
        for _ in range(50):
            (frame,) = await one.take(1)
            arrived_s.append((clock() - start_s, json.loads(frame)["ts"]))
    start_ms = arrived_s[0][1]
    # Never before its time; that it is not after it, `test_playback.py` shows, where no load can tell.
    assert all(at_s >= (ts - start_ms) / 4_000 for at_s, ts in arrived_s)


async def test_a_later_subscriber_gets_a_snapshot_then_the_same_deltas() -> None:
    async with running(simulated(), pace=Pace(speed=5)) as exchange, session(exchange) as first:
        await first.ask(op="subscribe", args=[TOPIC])
        before = await first.take(50)
        async with session(exchange) as second:
            assert (await second.ask(op="subscribe", args=[TOPIC]))["success"]
            theirs = await second.take(100)
            ours = before + await first.take(200)
    assert json.loads(theirs[0])["type"] == "snapshot"
    following = after(ours, theirs[0])
    assert len(following) <= 200
    assert sides(theirs[:1]) == sides(ours[: -len(following)])
    assert theirs[1:] == following[:99]


async def test_resubscribing_starts_from_a_new_snapshot() -> None:
    async with running(simulated(), pace=Pace(speed=5)) as exchange, session(exchange) as one:
        await one.ask(op="subscribe", args=[TOPIC])
        first = await one.take(30)
        await one.ask(op="unsubscribe", args=[TOPIC])
        one.pushed.clear()
        await asyncio.sleep(0.1)
        await one.ask(op="subscribe", args=[TOPIC])
        second = await one.take(30)
    assert [json.loads(frames[0])["type"] for frames in (first, second)] == ["snapshot", "snapshot"]
    assert sides(second)[0] > sides(first)[0] + 29


async def test_a_dropped_delta_is_a_gap_that_a_new_subscription_heals(tmp_path: Path) -> None:
    capture = recorded(tmp_path, 400)
    truth = [captured.frame for captured in capture]
    async with (
        running(capture_listing(capture), pace=MAX, drop_every=25) as exchange,
        session(exchange) as one,
    ):
        await one.ask(op="subscribe", args=[TOPIC])
        frames = await one.take(40)
        ids = [json.loads(frame)["data"]["u"] for frame in frames]
        assert [later - earlier for earlier, later in pairwise(ids)].index(2) == 24
        await one.ask(op="unsubscribe", args=[TOPIC])
        one.pushed.clear()
        await one.ask(op="subscribe", args=[TOPIC])
        (snapshot,) = await one.take(1)
    assert sides([snapshot]) == sides(truth[: len(truth) - len(after(truth, snapshot))])


async def test_two_symbols_and_depths_on_one_connection() -> None:
    listing = simulated_listing(
        [
            MarketConfiguration(symbol="BTCUSDT"),
            MarketConfiguration(symbol="BTCUSDT", depth=200),
            MarketConfiguration(symbol="ETHUSDT"),
        ]
    )
    topics = ["orderbook.50.BTCUSDT", "orderbook.200.BTCUSDT", "orderbook.50.ETHUSDT"]
    async with running(listing, pace=Pace(speed=20)) as exchange, session(exchange) as one:
        await one.ask(op="subscribe", args=topics)
        frames = await one.take(400)
    for topic in topics:
        own = [frame for frame in frames if json.loads(frame)["topic"] == topic]
        assert len(own) > 20
        sides(own)  # one snapshot, then u + 1 each


async def test_the_simulated_market_runs_at_the_time_of_day() -> None:
    async with running(simulated()) as exchange, session(exchange) as one:
        await one.ask(op="subscribe", args=[TOPIC])
        (frame,) = await one.take(1)
    assert abs(json.loads(frame)["ts"] - time.time() * 1000) < 5_000


async def test_loop_begins_again_with_the_snapshot(tmp_path: Path) -> None:
    capture = recorded(tmp_path, 20)
    texts = [captured.frame for captured in capture]
    async with (
        running(capture_listing(capture), pace=MAX, ending="loop") as exchange,
        session(exchange) as one,
    ):
        await one.ask(op="subscribe", args=[TOPIC])
        assert await one.take(60) == texts * 3


async def test_idle_keeps_the_connection_and_the_last_book(tmp_path: Path) -> None:
    capture = recorded(tmp_path, 20)
    async with running(capture_listing(capture), pace=MAX) as exchange, session(exchange) as one:
        await one.ask(op="subscribe", args=[TOPIC])
        frames = await one.take(20)
        assert (await one.ask(op="ping"))["ret_msg"] == "pong"
        async with session(exchange) as later:
            await later.ask(op="subscribe", args=[TOPIC])
            assert sides(await later.take(1)) == sides(frames)


async def test_a_capture_of_several_files_and_symbols(tmp_path: Path) -> None:
    captures = [recorded(tmp_path, 30, symbol=symbol) for symbol in ("BTCUSDT", "ETHUSDT")]
    both = open_captures([path for capture in captures for path in capture.paths])
    listing = capture_listing(both)
    assert list(listing.topics) == ["orderbook.50.BTCUSDT", "orderbook.50.ETHUSDT"]
    async with running(listing, pace=MAX) as exchange, session(exchange) as one:
        await one.ask(op="subscribe", args=["orderbook.50.ETHUSDT"])
        assert await one.take(30) == [captured.frame for captured in captures[1]]
    only = capture_listing(both, symbols=["ETHUSDT"])
    assert list(only.topics) == ["orderbook.50.ETHUSDT"]


# --- slow clients


@asynccontextmanager
async def deaf(exchange: Exchange) -> AsyncIterator[socket.socket]:
    """A client that subscribes and then reads nothing, its receive buffer as small as can be."""
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(raw, ("127.0.0.1", exchange.port))
        handshake = (
            f"GET /v5/public/linear HTTP/1.1\r\nHost: 127.0.0.1:{exchange.port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n"
        )
        await loop.sock_sendall(raw, handshake.encode())
        assert b"101" in await loop.sock_recv(raw, 1024)
        text = json.dumps({"op": "subscribe", "args": [TOPIC]}).encode()
        # A masked text frame with a mask of zeros.
        await loop.sock_sendall(raw, bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
        yield raw


async def ended(raw: socket.socket) -> None:
    """Reads until the exchange has ended the connection, in order or not."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        try:
            while await loop.sock_recv(raw, 65_536):
                pass
        except ConnectionResetError:
            pass


async def test_a_deaf_client_is_ended_and_delays_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    capture = recorded(tmp_path, 5_000)
    texts = [captured.frame for captured in capture]
    async with (
        running(
            capture_listing(capture), pace=Pace(speed=50), maximum_waiting_frames=500, patience_s=600
        ) as exchange,
        session(exchange) as healthy,
    ):
        await healthy.ask(op="subscribe", args=[TOPIC])
        async with deaf(exchange) as raw:
            assert await healthy.take(5_000) == texts  # else it would wait for as long as its patience lasts
            await ended(raw)
            async with asyncio.timeout(10):
                while exchange.counters.overruns == 0:
                    await asyncio.sleep(0.01)
        assert exchange.counters.overruns == 1
        assert (await healthy.ask(op="ping"))["ret_msg"] == "pong"
    assert "ended: too slow: 500 messages are waiting" in caplog.text


async def test_at_the_subscribers_pace_a_slow_client_misses_nothing(tmp_path: Path) -> None:
    capture = recorded(tmp_path, 3_000)
    texts = [captured.frame for captured in capture]
    async with (
        running(capture_listing(capture), pace=MAX, maximum_waiting_frames=50, ending="close") as exchange,
        session(exchange, max_queue=1) as slow,
        session(exchange) as quick,
    ):
        await quick.ask(op="subscribe", args=[TOPIC])
        await slow.ask(op="subscribe", args=[TOPIC])
        reading = asyncio.create_task(quick.rest())
        while len(slow.pushed) < 2_000:
            slow.pushed.append(await slow.receive())
            if len(slow.pushed) % 200 == 0:
                await asyncio.sleep(0.05)
        got = await slow.rest()
        assert await reading == texts
        assert got[1:] == after(texts, got[0])
        assert exchange.counters.overruns == 0


async def test_a_full_outbox_still_answers(tmp_path: Path) -> None:
    """At the subscribers' pace the market fills a slow client's outbox: no fault of the client."""
    capture = recorded(tmp_path, 6_000)
    async with (
        running(capture_listing(capture), pace=MAX, maximum_waiting_frames=5, patience_s=5) as exchange,
        session(exchange, max_queue=1) as one,
    ):
        await one.ask(op="subscribe", args=[TOPIC])
        for _ in range(5):
            await asyncio.sleep(0.1)
            assert (await one.ask(op="ping"))["ret_msg"] == "pong"
            await one.ask(op="unsubscribe", args=[TOPIC])
            await one.ask(op="subscribe", args=[TOPIC])
        assert exchange.counters.overruns == 0


async def test_at_the_subscribers_pace_a_deaf_client_is_waited_for_a_while_only(tmp_path: Path) -> None:
    capture = recorded(tmp_path, 3_000)
    texts = [captured.frame for captured in capture]
    limits = {"maximum_waiting_frames": 50, "patience_s": 0.3}
    async with (
        running(capture_listing(capture), pace=MAX, ending="close", **limits) as exchange,
        session(exchange) as healthy,
        deaf(exchange),
    ):
        await healthy.ask(op="subscribe", args=[TOPIC])
        got = await healthy.rest()
        assert exchange.counters.overruns == 1
    assert got[1:] == after(texts, got[0])


# --- HTTP on the same port


def get(url: str) -> tuple[int, str, Any]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as response:
            return response.status, response.headers["Content-Type"], json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], json.load(error)


async def test_instruments_info() -> None:
    async with running(simulated()) as exchange:
        base = f"http://127.0.0.1:{exchange.port}/v5/market/instruments-info"
        status, kind, answer = await asyncio.to_thread(get, f"{base}?category=linear&symbol=BTCUSDT")
        assert (status, kind) == (200, "application/json")
        assert (answer["retCode"], answer["retMsg"], answer["retExtInfo"]) == (0, "OK", {})
        assert (answer["result"]["category"], answer["result"]["nextPageCursor"]) == ("linear", "")
        (listed,) = answer["result"]["list"]
        assert (listed["symbol"], listed["status"]) == ("BTCUSDT", "Trading")
        assert listed["priceFilter"]["tickSize"] == "0.10"
        assert listed["lotSizeFilter"]["qtyStep"] == "0.001"
        _, _, spot = await asyncio.to_thread(get, f"{base}?category=spot")
        assert spot["result"]["list"][0]["lotSizeFilter"]["basePrecision"] == "0.001"
        status, _, unknown = await asyncio.to_thread(get, f"{base}?category=linear&symbol=NOPE")
        assert (status, unknown["retCode"], unknown["retMsg"]) == (200, 10001, "params error: symbol invalid")
        _, _, unknown = await asyncio.to_thread(get, f"{base}?category=spot&symbol=NOPE")
        assert (unknown["retCode"], unknown["result"]["list"]) == (0, [])
        _, _, wrong = await asyncio.to_thread(get, f"{base}?category=bonds")
        assert (wrong["retCode"], wrong["retMsg"]) == (10001, "Illegal category")


@pytest.mark.parametrize(
    ("name", "symbol", "tick_size", "lot_size"),
    [(BYBIT_SPOT, "BTCUSDT", "0.1", "0.000001"), (BYBIT_ARCHIVE, "XRPUSDT", "0.0001", "1")],
)
async def test_a_capture_s_instrument_is_inferred(
    data_dir: Path, name: str, symbol: str, tick_size: str, lot_size: str
) -> None:
    listing = capture_listing(open_capture(data_dir / name))
    (listed,) = listing.instruments
    assert (listed.symbol, listed.tick_size, listed.lot_size) == (symbol, tick_size, lot_size)
    async with running(listing) as exchange:
        found = await asyncio.to_thread(fetch_instrument, exchange.url(), "linear", symbol)
    assert found == Instrument(symbol=symbol, tick_size=tick_size)


async def test_a_recording_states_its_tick_size_and_the_caller_may_overrule_it(tmp_path: Path) -> None:
    capture = recorded(tmp_path, 20)
    assert capture_listing(capture).instruments[0].tick_size == "0.10"
    assert capture_listing(capture, tick_size="0.05").instruments[0].tick_size == "0.05"


async def test_health_and_other_paths() -> None:
    async with running(simulated()) as exchange:
        status, _, health = await asyncio.to_thread(get, f"http://127.0.0.1:{exchange.port}/healthz")
        assert (status, health["status"], health["topics"]) == (200, "ok", [TOPIC])
        assert health["source"] == "simulated market, seed 3"
        for path in ("/", "/v5/public/option", "/v5/market/time"):
            status, _, answer = await asyncio.to_thread(get, f"http://127.0.0.1:{exchange.port}{path}")
            assert status == 404
            assert answer["error"].startswith(f"{path} is not here; /v5/public/linear, ")


# --- bad input


async def test_a_port_in_use() -> None:
    async with running(simulated()) as exchange:
        taken = ExchangeConfiguration(port=exchange.port)
        with pytest.raises(InputError, match=rf"cannot listen on 127\.0\.0\.1:{exchange.port}"):
            async with Exchange(simulated(), taken):
                pass


async def test_captures_that_cannot_be_served(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a capture of binance; .* serves captures of bybit alone"):
        capture_listing(open_capture(data_dir / "binance/usdm_btcusdt_20240718.gz"))
    capture = recorded(tmp_path, 20)
    with pytest.raises(InputError, match="holds no order-book topic of ETHUSDT"):
        capture_listing(capture, symbols=["ETHUSDT"])
    path = tmp_path / "trades"
    path.write_bytes(b'{"topic":"publicTrade.BTCUSDT","ts":1,"data":[]}\n')
    with pytest.raises(InputError, match="holds no order-book topic of any symbol"):
        capture_listing(open_capture(path))


async def test_a_capture_damaged_far_in_is_served_up_to_there(tmp_path: Path) -> None:
    (path,) = recorded(tmp_path, 20_000).paths
    path.write_bytes(path.read_bytes()[:-50_000])
    async with running(capture_listing(open_capture(path)), pace=MAX, ending="close") as exchange:
        async with session(exchange) as one:
            await one.ask(op="subscribe", args=[TOPIC])
            frames = await one.rest()
        await asyncio.wait_for(exchange.ended.wait(), 5)
        assert isinstance(exchange.failure, CaptureError)
        assert "the file was cut" in str(exchange.failure)
    assert len(frames) > 10_000
    sides(frames)


async def test_one_topic_is_listed_once() -> None:
    twice = [MarketConfiguration(), replace(MarketConfiguration(), seed=2)]
    with pytest.raises(InputError, match=r"orderbook\.50\.BTCUSDT came twice"):
        simulated_listing(twice)
    with pytest.raises(InputError, match="none came"):
        simulated_listing([])


# --- the command


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "mambalob", "exchange", *map(str, arguments)]


@asynccontextmanager
async def started(*arguments: str | Path) -> AsyncIterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The command as its own process, listening on a free port; killed if the test leaves it running."""
    with subprocess.Popen(
        command(*arguments, "--port", "0", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = await asyncio.to_thread(process.stdout.readline)
            assert line, process.communicate()
            yield process, json.loads(line)
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_command_serves_until_a_signal_and_ends_in_order(number: signal.Signals) -> None:
    async with started("--simulate", "--seed", "7") as (process, told):
        assert told["topics"] == [TOPIC]
        assert told["source"] == "simulated market, seed 7"
        assert told["url"] == f"ws://127.0.0.1:{told['port']}/v5/public/linear"
        async with client(told["url"]) as connection:
            one = Session(connection)
            assert (await one.ask(op="subscribe", args=[TOPIC]))["success"]
            assert len(await one.take(10)) == 10
            process.send_signal(number)
            await one.rest()
            assert connection.close_code == 1001
            assert connection.close_reason == "the exchange is stopping"
        _, errors = await asyncio.to_thread(process.communicate, timeout=10)
        assert process.returncode == 0
        assert "Traceback" not in errors


async def test_the_command_ends_with_its_capture(data_dir: Path) -> None:
    capture = data_dir / BYBIT_ARCHIVE
    async with started(capture, "--speed", "max", "--then", "close") as (process, told):
        async with client(told["url"]) as connection:
            one = Session(connection)
            await one.ask(op="subscribe", args=told["topics"])
            assert await one.rest() == [captured.frame for captured in open_capture(capture)]
        await asyncio.to_thread(process.communicate, timeout=10)
        assert process.returncode == 0


async def test_the_command_names_the_damage(tmp_path: Path) -> None:
    (path,) = recorded(tmp_path, 20_000).paths
    path.write_bytes(path.read_bytes()[:-50_000])
    async with started(path, "--speed", "max", "--then", "close") as (process, told):
        async with client(told["url"]) as connection:
            one = Session(connection)
            await one.ask(op="subscribe", args=told["topics"])
            assert len(await one.rest()) > 10_000
        _, errors = await asyncio.to_thread(process.communicate, timeout=10)
        assert process.returncode == 1
        assert "the file was cut" in errors
        assert "Traceback" not in errors


def run(*arguments: str | Path) -> tuple[int, str, str]:
    """The command in this process, through the program's door: exit code, output and errors."""
    done = CliRunner().invoke(main, ["exchange", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.stdout, done.stderr


def test_the_command_writes_the_simulated_market(tmp_path: Path) -> None:
    path = tmp_path / "market.zst"
    arguments = ("--simulate", "--seed", "9", "--write", path, "--messages", "500")
    code, out, _ = run(*arguments, "--json")
    assert code == 0
    assert json.loads(out) == {
        "path": str(path),
        "messages": 500,
        "bytes": path.stat().st_size,
        "source": "simulated market, seed 9",
    }
    capture = open_capture(path)
    assert capture.instruments == (InstrumentHint(symbol="BTCUSDT", tick_size="0.10"),)
    assert capture.source == "simulated market, seed 9"
    assert list(capture) == list(SimulatedMarket(MarketConfiguration(seed=9)).frames(500))
    code, _, errors = run(*arguments)
    assert (code, errors) == (
        1,
        f"Error: {path} exists; a recording never overwrites a file, give another name\n",
    )


def test_the_command_writes_several_symbols_in_order_of_time(tmp_path: Path) -> None:
    path = tmp_path / "market.zst"
    symbols = ("--symbol", "BTCUSDT", "--symbol", "ETHUSDT")
    code, out, _ = run("--simulate", *symbols, "--write", path, "--messages", "400")
    assert code == 0
    assert out.startswith("400 messages of the simulated market, seed 0 written to ")
    capture = open_capture(path)
    assert [hint.symbol for hint in capture.instruments] == ["BTCUSDT", "ETHUSDT"]
    frames = list(capture)
    assert all(before.receive_ns <= later.receive_ns for before, later in pairwise(frames))
    assert 150 < sum(b"ETHUSDT" in captured.frame for captured in frames) < 250


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        ((), 2, "give either --simulate or the captures to serve"),
        (("--simulate", "file"), 2, "give either --simulate or the captures to serve"),
        (("--simulate", "--write", "file"), 2, "--write and --messages go together"),
        (("file", "--write", "other", "--messages", "5"), 2, "it needs --simulate"),
        (("file", "--depth", "50"), 2, "--depth is for --simulate"),
        (("--simulate", "--depth", "25"), 2, "'25' is not one of"),
        (("--simulate", "--seed", "-1"), 2, "-1 is not in the range"),
        (("--simulate", "--drop-every", "0"), 2, "0 is not in the range"),
        (("--simulate", "--speed", "quick"), 1, "speed: 'quick' came; allowed: a number above 0, or max"),
        (("--simulate", "--tick-size", "0"), 1, "tick_size"),
        (("no-such-file",), 1, "no-such-file: no such file; expected a capture"),
        (
            ("--simulate", "--fault", "drop:every=1,every=2"),
            1,
            "fault: every came twice in 'drop:every=1,every=2'; allowed: each name once",
        ),
        (
            ("--simulate", "--fault", "drop:topic=orderbook.51.*"),
            1,
            "fault: drop:topic=orderbook.51.* came, which can befall none of the topics served "
            "(orderbook.50.BTCUSDT)",
        ),
        (
            ("--simulate", "--fault", "old-snapshot"),
            1,
            "fault: old-snapshot came, which can befall none of the topics served (orderbook.50.BTCUSDT)",
        ),
        (
            ("--simulate", "--depth", "full", "--fault", "drop", "--fault", "delta-first"),
            1,
            "fault: delta-first came, which can befall none of the topics served",
        ),
        (
            ("--simulate", "--faults", "random", "--fault-kind", "failed-snapshot"),
            1,
            "fault_kind: failed-snapshot came, which can befall none of the topics served",
        ),
        *(
            (
                ("--simulate", "--write", "file", "--messages", "5", *option),
                2,
                "--write records the market as",
            )
            for option in (
                ("--fault", "drop"),
                ("--faults", "random"),
                ("--drop-every", "2"),
                ("--fault-log", "log"),
                ("--book-log", "log"),
            )
        ),
    ],
)
def test_the_command_refuses_in_one_line(arguments: tuple[str, ...], code: int, expected: str) -> None:
    returned, _, errors = run(*arguments)
    assert returned == code
    assert expected in errors.splitlines()[-1]


def test_the_command_names_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            command("--simulate", "--port", str(port)),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"Error: cannot listen on 127.0.0.1:{port}: ")
    assert done.stderr.count("\n") == 1


async def test_an_exchange_that_cannot_begin_leaves_no_logs(tmp_path: Path) -> None:
    faults, books = tmp_path / "faults.jsonl", tmp_path / "books.jsonl"
    listing = simulated_listing([MarketConfiguration()])
    with pytest.raises(InputError, match="cannot be created"):
        Exchange(listing, ExchangeConfiguration(port=0, fault_log=faults, book_log=faults))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        exchange = Exchange(listing, ExchangeConfiguration(port=port, fault_log=faults, book_log=books))
        with pytest.raises(InputError, match="cannot listen"):
            await exchange.__aenter__()
    assert list(tmp_path.iterdir()) == []


def test_the_command_refuses_a_capture_of_binance(data_dir: Path) -> None:
    code, _, errors = run(data_dir / "binance" / "usdm_btcusdt_20240718.gz")
    assert code == 1
    assert "serves captures of bybit alone" in errors.splitlines()[-1]
