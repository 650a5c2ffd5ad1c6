"""The subscriber against a real websocket server that does what each test tells it to."""

import asyncio
import contextlib
import json
import logging
import shutil
import ssl
import subprocess
from pathlib import Path
from random import Random
from typing import Any

import pytest
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from lob.errors import InputError
from serve.bybit_stream import BookTopic
from serve.clock import AnchoredClock
from serve.feed import Feed
from serve.feed_config import FeedConfig
from serve.feed_connection import RefusedSubscriptionError
from serve.feed_policies import IdlePolicy, RefusalPolicy, ResyncPolicy
from serve.reconnect import ReconnectPolicy
from serve.venue_connection import MAXIMUM_FRAME_BYTES, is_this_machine
from tests.serve.running_feed import running
from tests.serve.waiting import until

pytestmark = pytest.mark.anyio


class Recorder:
    """A consumer that writes down what it is told, and whose wishes the test sets."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.frames: list[tuple[bytes, int]] = []
        self.checks = 0
        self.needs_resync = False
        self.awaits_snapshot = False
        self.keeps_book = True
        self.reason = "the test says so"
        self.unreadable_frames = 0

    def on_connected(self) -> None:
        self.events.append("connected")

    def on_disconnected(self, reason: str) -> None:
        self.events.append(f"disconnected: {reason}")

    def on_frame(self, frame: bytes, receive_ns: int) -> None:
        self.frames.append((frame, receive_ns))

    def on_unnamed_frame(self, frame: bytes, receive_ns: int, *, readable: bool) -> None:
        self.frames.append((frame, receive_ns))

    def check_freshness(self, now_ns: int) -> None:
        self.checks += 1

    def resync_requested(self) -> None:
        self.needs_resync = False
        self.events.append("resync requested")

    @property
    def books(self) -> list[dict]:
        decoded = [json.loads(frame) for frame, _ in self.frames]
        return [message for message in decoded if "topic" in message]


QUICK = ReconnectPolicy(initial_s=0.02, factor=1, cap_s=0.02, settled_s=60)


def config(url: str, **options: Any) -> FeedConfig:
    options.setdefault("reconnect", QUICK)
    options.setdefault("check_interval_s", 0.02)
    return FeedConfig(url=url, **options)


def feed_of(config: FeedConfig, consumer: Recorder, clock: AnchoredClock, **options: Any) -> Feed:
    return Feed(config, {BookTopic(symbol="BTCUSDT", depth=50): consumer}, clock, **options)


async def test_subscribes_and_hands_over_every_frame_with_its_arrival(scripted_exchange) -> None:
    clock, recorder = AnchoredClock(), Recorder()
    async with scripted_exchange() as exchange:
        feed = feed_of(config(exchange.url), recorder, clock)
        before_ns = clock.now_ns()
        async with running(feed):
            await until(lambda: len(recorder.books) == 1)
            for _ in range(100):
                await exchange.push("delta", [["100.0", "3"]], [])
            await until(lambda: len(recorder.books) == 101)
            after_ns = clock.now_ns()
            await until(lambda: recorder.checks > 0)
            request = exchange.requests[0]
            assert request["op"] == "subscribe"
            assert request["args"] == ["orderbook.50.BTCUSDT"]
        assert [book["data"]["u"] for book in recorder.books] == list(range(1_001, 1_102))
        arrivals = [receive_ns for _, receive_ns in recorder.frames]
        assert arrivals == sorted(arrivals)
        assert before_ns < arrivals[0]
        assert arrivals[-1] < after_ns
        assert recorder.events == ["connected", "disconnected: the feed was stopped"]
        assert feed.counters.frames == 102
        assert feed.counters.bytes == sum(len(frame) for frame, _ in recorder.frames)


async def test_a_frame_that_waited_in_the_process_keeps_its_time_of_arrival(
    scripted_exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, recorder = AnchoredClock(), Recorder()
    read_at_ns = []

    def slow(frame: bytes, receive_ns: int) -> None:
        read_at_ns.append(clock.now_ns())
        while clock.now_ns() - read_at_ns[-1] < 5_000_000:
            pass
        recorder.frames.append((frame, receive_ns))

    monkeypatch.setattr(recorder, "on_frame", slow)
    async with scripted_exchange() as exchange, running(feed_of(config(exchange.url), recorder, clock)):
        await until(lambda: len(recorder.books) == 1)
        read_at_ns.clear()
        recorder.frames.clear()
        for _ in range(20):  # all at once: they arrive together and are read one after the other
            await exchange.push("delta", [["100.0", "3"]], [])
        await until(lambda: len(recorder.books) == 20)
    waited_ns = [read_ns - frame[1] for read_ns, frame in zip(read_at_ns, recorder.frames, strict=True)]
    assert max(waited_ns) > 10_000_000
    assert min(waited_ns) >= 0


async def test_sends_the_exchanges_own_ping(scripted_exchange) -> None:
    async with (
        scripted_exchange() as exchange,
        running(
            feed_of(config(exchange.url, idle=IdlePolicy(ping_interval_s=0.1)), Recorder(), AnchoredClock())
        ),
    ):
        await until(lambda: exchange.operations().count("ping") >= 3)


async def test_connects_again_after_a_close_an_abort_and_a_refused_connection(
    scripted_exchange, caplog
) -> None:
    caplog.set_level(logging.INFO, "serve")
    recorder = Recorder()
    async with scripted_exchange() as exchange:
        feed = feed_of(config(exchange.url), recorder, AnchoredClock())
        async with running(feed):
            await until(lambda: len(recorder.books) == 1)
            await exchange.connections[-1].close(1012, "maintenance")
            await until(lambda: len(recorder.books) == 2)
            exchange.connections[-1].transport.abort()
            await until(lambda: len(recorder.books) == 3)
    assert recorder.events == [
        "connected",
        "disconnected: closed by the exchange: 1012 maintenance",
        "connected",
        "disconnected: connection lost without a word",
        "connected",
        "disconnected: the feed was stopped",
    ]
    assert feed.counters.connections == 3
    assert sum("connecting again in" in record.message for record in caplog.records) == 2
    port = int(exchange.url.split(":")[2].split("/")[0])
    recorder = Recorder()
    feed = feed_of(config(exchange.url), recorder, AnchoredClock())
    async with running(feed):
        await until(lambda: feed.counters.failed_connections >= 3)
        assert recorder.events
        assert all("cannot connect: " in event for event in recorder.events)
        async with scripted_exchange(port):
            await until(lambda: len(recorder.books) == 1)


async def test_gives_up_only_when_the_policy_says_so(scripted_exchange) -> None:
    async with scripted_exchange() as exchange:
        url = exchange.url
    told = ReconnectPolicy(initial_s=0.01, cap_s=0.01, attempts=3)
    feed = feed_of(config(url, reconnect=told), Recorder(), AnchoredClock(), random=Random(1))
    with pytest.raises(InputError, match=r"given up after 3 attempts: cannot connect"):
        await asyncio.wait_for(feed.run(), 60)
    assert feed.counters.failed_connections == 3


async def test_a_lost_book_is_asked_for_again_at_most_so_often(scripted_exchange) -> None:
    recorder = Recorder()
    async with scripted_exchange() as exchange:
        feed = feed_of(
            config(exchange.url, resync=ResyncPolicy(minimum_interval_s=0.2)), recorder, AnchoredClock()
        )
        clock = asyncio.get_running_loop().time
        began_s = clock()
        async with running(feed):
            await until(lambda: len(recorder.books) == 1)
            while feed.counters.resyncs < 4:  # lost again and again, without end
                recorder.needs_resync = True
                await exchange.push("delta", [], [])
                await asyncio.sleep(0.005)
            passed_s = clock() - began_s
            assert passed_s >= 0.2 * feed.counters.resyncs  # the subscription itself came first
            await until(lambda: exchange.operations().count("unsubscribe") == feed.counters.resyncs)
            assert exchange.operations()[-2:] == ["unsubscribe", "subscribe"]
        assert feed.counters.connections == 1


async def test_a_connection_that_gives_no_snapshot_is_left(scripted_exchange) -> None:
    recorder = Recorder()
    recorder.awaits_snapshot = True
    async with scripted_exchange() as exchange:
        exchange.snapshots = False
        policy = ResyncPolicy(snapshot_timeout_s=0.15)
        async with running(feed_of(config(exchange.url, resync=policy), recorder, AnchoredClock())):
            await until(lambda: len(exchange.connections) >= 3)
    assert "disconnected: no snapshot in 0.15 s" in recorder.events


async def test_a_subscription_nobody_answers_ends_the_connection(scripted_exchange) -> None:
    recorder = Recorder()
    async with scripted_exchange() as exchange:
        exchange.acknowledge = lambda request: None
        feed = feed_of(
            config(exchange.url, resync=ResyncPolicy(acknowledgement_timeout_s=0.1)),
            recorder,
            AnchoredClock(),
        )
        async with running(feed):
            await until(lambda: len(exchange.connections) >= 2)
    assert recorder.events[1] == "disconnected: no answer to the subscription in 0.1 s"


def refuse(words: str):
    return lambda request: {"success": False, "ret_msg": words, "op": request["op"], "conn_id": "test"}


async def test_an_invalid_symbol_is_final(scripted_exchange) -> None:
    recorder = Recorder()
    async with scripted_exchange() as exchange:
        exchange.acknowledge = refuse("Invalid symbol :[orderbook.50.BTCUSDT]")
        feed = feed_of(config(exchange.url), recorder, AnchoredClock())
        with pytest.raises(RefusedSubscriptionError, match=r"refuses orderbook.50.BTCUSDT: Invalid symbol"):
            await asyncio.wait_for(feed.run(), 60)
    assert recorder.events[-1].startswith("disconnected: the exchange refuses")
    assert feed.counters.refusals == 1


async def test_any_other_refusal_is_tried_again(scripted_exchange) -> None:
    recorder = Recorder()
    async with scripted_exchange() as exchange:
        exchange.acknowledge = refuse("too many\nvisits")
        feed = feed_of(config(exchange.url), recorder, AnchoredClock())
        async with running(feed):
            await until(lambda: feed.counters.refusals >= 3)
    assert recorder.events == ["connected", "disconnected: the feed was stopped"]  # on the same connection
    assert not RefusalPolicy().is_final("too many visits")


async def test_replies_that_are_not_ours_or_mean_nothing_change_nothing(scripted_exchange) -> None:
    recorder = Recorder()
    async with (
        scripted_exchange() as exchange,
        running(feed_of(config(exchange.url), recorder, AnchoredClock())),
    ):
        await until(lambda: len(recorder.books) == 1)
        for text in (
            '{"success":false,"ret_msg":"Invalid symbol","req_id":"of somebody else","op":"subscribe"}',
            '{"success":false,"ret_msg":"not found","op":"unsubscribe"}',
            '{"success":false,"ret_msg":"strange"}',
            "no JSON at all",
            "[]",
        ):
            await exchange.connections[-1].send(text)
        await exchange.connections[-1].send(b"\x00\xff binary")
        await exchange.push("delta", [], [])
        await until(lambda: len(recorder.frames) == 9 and b'"delta"' in recorder.frames[-1][0])
        assert len(exchange.connections) == 1


async def test_a_frame_above_the_bound_ends_the_connection_and_not_the_feed(scripted_exchange) -> None:
    recorder = Recorder()
    async with (
        scripted_exchange() as exchange,
        running(feed_of(config(exchange.url), recorder, AnchoredClock())),
    ):
        await until(lambda: len(recorder.books) == 1)
        with contextlib.suppress(ConnectionClosed):
            await exchange.connections[-1].send("x" * (MAXIMUM_FRAME_BYTES + 1))
        await until(lambda: len(recorder.books) == 2)
    assert recorder.events[1].startswith("disconnected: closed by us: 1009")


async def test_fragments_are_put_together_under_one_stamp(scripted_exchange) -> None:
    recorder, clock = Recorder(), AnchoredClock()
    async with scripted_exchange() as exchange, running(feed_of(config(exchange.url), recorder, clock)):
        await until(lambda: len(recorder.books) == 1)
        await exchange.connections[-1].send(["a", "b", "c"])
        await exchange.connections[-1].send("d")
        await until(lambda: len(recorder.frames) == 4)
    assert [frame for frame, _ in recorder.frames[2:]] == [b"abc", b"d"]
    assert recorder.frames[2][1] <= recorder.frames[3][1] <= clock.now_ns()


async def test_what_the_consumer_raises_ends_the_feed(
    scripted_exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()

    def full(frame: bytes, receive_ns: int) -> None:
        raise InputError("the disk is full")

    monkeypatch.setattr(recorder, "on_frame", full)
    async with scripted_exchange() as exchange:
        with pytest.raises(InputError, match="the disk is full"):
            await asyncio.wait_for(feed_of(config(exchange.url), recorder, AnchoredClock()).run(), 60)
    assert recorder.events == ["connected", "disconnected: the feed was stopped"]


async def test_a_server_that_is_no_websocket_server_is_tried_again() -> None:
    async def answer(reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        recorder = Recorder()
        feed = feed_of(config(f"ws://127.0.0.1:{port}/"), recorder, AnchoredClock())
        async with running(feed):
            await until(lambda: feed.counters.failed_connections >= 2)
    assert "HTTP 404" in recorder.events[0]


@pytest.fixture
def unknown_authority(tmp_path: Path) -> ssl.SSLContext:
    """A server's TLS context with a certificate it signed itself."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command to sign a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        f"{openssl} req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}".split(),
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def test_a_certificate_nobody_vouches_for_is_refused(unknown_authority) -> None:

    async def handle(connection) -> None:
        await connection.wait_closed()

    async with serve(handle, "127.0.0.1", 0, ssl=unknown_authority) as server:
        port = server.sockets[0].getsockname()[1]
        recorder = Recorder()
        feed = feed_of(config(f"wss://127.0.0.1:{port}/"), recorder, AnchoredClock())
        async with running(feed):
            await until(lambda: feed.counters.failed_connections >= 1)
    assert "CERTIFICATE_VERIFY_FAILED" in recorder.events[0]
    assert feed.counters.connections == 0


def test_this_machine_is_told_from_others() -> None:
    assert is_this_machine("ws://127.0.0.1:9/")
    assert is_this_machine("ws://[::1]:9/")
    assert is_this_machine("ws://localhost/")
    assert not is_this_machine("wss://stream.bybit.com/v5/public/linear")
    assert not is_this_machine("ws://10.0.0.1/")
