"""The websocket endpoint on real sockets, with clients that behave and clients that do not."""

import asyncio
import json
import socket
from contextlib import closing, suppress

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from lob.sync import SymbolState
from serve.stream import RequestBudget, StreamLimits
from tests.serve.waiting import until

pytestmark = pytest.mark.anyio
TOPIC = "prediction.BTCUSDT"


async def ask(client: ClientConnection, **request: object) -> dict:
    await client.send(json.dumps(request))
    return json.loads(await client.recv())


async def subscribe(client: ClientConnection, topic: str = TOPIC) -> dict:
    """Subscribes; answers the first push, the current state."""
    reply = await ask(client, op="subscribe", args=[topic])
    assert reply["success"], reply
    return json.loads(await client.recv())


async def closed_with(client: ClientConnection) -> tuple[int, str]:
    """Reads on until the server closes the connection; answers its code and reason."""
    async with asyncio.timeout(60):
        with suppress(ConnectionClosed):
            async for _ in client:
                pass
        await client.wait_closed()
    return client.close_code, client.close_reason


async def test_subscribe_gives_the_reply_then_the_state_then_predictions(running_app) -> None:
    async with running_app() as app, connect(app.stream) as client:
        reply = await ask(client, op="subscribe", req_id="1", args=[TOPIC])
        assert reply["conn_id"]
        assert reply == {
            "op": "subscribe",
            "success": True,
            "req_id": "1",
            "ret_msg": "",
            "conn_id": reply["conn_id"],
        }
        state = json.loads(await client.recv())
        assert state["type"] == "state"
        assert state["data"] == {"state": "connecting", "reason": "the service has just started"}
        app.go_live()
        assert json.loads(await client.recv())["data"] == {"state": "live", "reason": ""}
        before_ms = app.clock.now_ns() // 1_000_000
        app.publish(41)
        after_ms = app.clock.now_ns() // 1_000_000
        message = json.loads(await client.recv())
        assert message["topic"] == TOPIC
        assert message["type"] == "prediction"
        assert message["seq"] == state["seq"] + 2
        assert before_ms <= message["ts"] <= after_ms
        data = message["data"]
        assert data["update_id"] == 41
        assert data["receive_ns"] <= data["emit_ns"]
        assert data["latency_us"] == pytest.approx((data["emit_ns"] - data["receive_ns"]) / 1_000)


async def test_ping_and_unsubscribe_are_answered_and_unsubscribing_ends_the_pushes(running_app) -> None:
    async with running_app() as app, connect(app.stream) as client:
        app.go_live()
        await subscribe(client)
        pong = await ask(client, op="ping", req_id="p")
        assert (pong["op"], pong["success"], pong["req_id"], pong["ret_msg"]) == ("ping", True, "p", "pong")
        assert (await ask(client, op="unsubscribe", args=[TOPIC]))["success"]
        app.publish(1)
        assert (await ask(client, op="ping"))["ret_msg"] == "pong"
        again = await ask(client, op="unsubscribe", args=[TOPIC])
        assert not again["success"]
        assert "subscribed is nothing" in again["ret_msg"]


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        ("", ["not a request", "allowed"]),
        ("{", ["not a request", "'{'"]),
        ("\x00\x01 garbage \U0001f600", ["not a request"]),
        ("[" * 3_000, ["not a request"]),
        ("[]", ["Expected `object`, got `array`"]),
        ('{"args":[]}', ["missing required field `op`"]),
        ('{"op":"subscribe","args":[1]}', ["Expected `str`, got `int`"]),
        ('{"op":"subscribe","req_id":7}', ["Expected `str`, got `int`", "req_id"]),
        ('{"op":"fly"}', ["'fly' came", "subscribe, unsubscribe, ping are allowed"]),
        ('{"op":"subscribe"}', ["0 topics came, 1 to 10 are allowed"]),
        ('{"op":"subscribe","args":["x","x","x","x","x","x","x","x","x","x","x"]}', ["11 topics came"]),
        ('{"op":"subscribe","args":["orderbook.50.BTCUSDT"]}', ["'orderbook.50.BTCUSDT' came", f"'{TOPIC}'"]),
        ('{"op":"subscribe","args":["prediction.BTCUSDT","prediction.DOGE"]}', ["'prediction.DOGE' came"]),
        (b"\xff\xfe", ["not a request"]),
    ],
)
async def test_what_is_no_valid_request_is_answered_with_what_came_and_what_is_allowed(
    running_app, sent, named
) -> None:
    async with running_app() as app, connect(app.stream) as client:
        await client.send(sent)
        reply = json.loads(await client.recv())
        assert reply["success"] is False
        for words in named:
            assert words in reply["ret_msg"]
        assert len(reply["ret_msg"]) < 400
        # The connection is still good, and nothing was subscribed by half.
        assert not app.hub.topics[TOPIC].slots
        assert (await ask(client, op="ping"))["ret_msg"] == "pong"


async def test_a_message_above_the_limit_closes_with_1009(running_app) -> None:
    async with running_app() as app:
        async with connect(app.stream) as client:
            await client.send("x" * 4_097)
            code, reason = await closed_with(client)
            assert code == 1009
            assert "4097 bytes came, 4096 are allowed" in reason
        async with connect(app.stream) as client:
            await client.send("x" * 100_000)
            assert (await closed_with(client))[0] == 1009
        async with connect(app.stream) as client:
            await subscribe(client)


async def test_too_many_requests_close_with_1008(running_app) -> None:
    async with running_app(limits=StreamLimits(request_burst=5)) as app, connect(app.stream) as client:
        for _ in range(6):
            await client.send('{"op":"ping"}')
        code, reason = await closed_with(client)
        assert code == 1008
        assert "more than 5 requests came at once" in reason


def test_the_request_budget_refills_to_its_burst_and_no_further() -> None:
    budget = RequestBudget(StreamLimits(request_burst=3, requests_per_s=2), now_s=100)
    assert [budget.spend(100) for _ in range(4)] == [True, True, True, False]
    assert [budget.spend(100.5) for _ in range(2)] == [True, False]
    assert [budget.spend(1_000) for _ in range(4)] == [True, True, True, False]


async def test_a_connection_too_many_is_told_to_come_back_later(running_app) -> None:
    async with running_app(limits=StreamLimits(connections=2)) as app:
        async with connect(app.stream) as first, connect(app.stream):
            await subscribe(first)
            async with connect(app.stream) as third:
                assert await closed_with(third) == (1013, "all 2 connections are taken")
            assert (await ask(first, op="ping"))["success"]
        await until(lambda: not app.streams.sessions)
        async with connect(app.stream) as client:
            await subscribe(client)
        assert app.streams.refused == 1


async def test_a_client_that_leaves_without_a_word_is_forgotten(running_app) -> None:
    async with running_app() as app:
        client = await connect(app.stream)
        app.go_live()
        await subscribe(client)
        client.transport.abort()
        async with asyncio.timeout(60):
            while app.streams.sessions:
                app.publish(1)
                await asyncio.sleep(0.01)
        assert not app.hub.topics[TOPIC].slots


def shake_hands(host: str, port: int) -> socket.socket:
    """A raw client after the websocket handshake, with a small receive buffer."""
    client = socket.create_connection((host, port), timeout=60)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.sendall(
        f"GET /v1/stream HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += client.recv(1)
    assert answer.startswith(b"HTTP/1.1 101")
    return client


def stop_reading(host: str, port: int) -> socket.socket:
    """A raw client that subscribes and then never reads again."""
    client = shake_hands(host, port)
    request = json.dumps({"op": "subscribe", "args": [TOPIC]}).encode()
    client.sendall(bytes([0x81, 0x80 | len(request), 0, 0, 0, 0]) + request)  # masked with zeros
    return client


NEVER_S = 86_400.0
"""A limit that no test waits for: what it bounds does not end by it."""


async def test_a_reader_that_stops_holds_up_nobody(running_app) -> None:
    limits = StreamLimits(send_timeout_s=NEVER_S)
    async with running_app(limits=limits) as app, connect(app.stream) as fast:
        app.go_live()
        await subscribe(fast)
        (fast_session,) = app.streams.sessions
        with closing(await asyncio.to_thread(stop_reading, app.host, app.port)):
            await until(lambda: len(app.hub.topics[TOPIC].slots) == 2)
            (stuck,) = app.streams.sessions - {fast_session}
            published, while_stuck = 0, 0
            while while_stuck < 500:
                app.publish(published)
                # The other takes nothing all the while: were it waited for, this message would never come.
                message = json.loads(await asyncio.wait_for(fast.recv(), 60))
                assert (message["data"]["update_id"], message.get("missed", 0)) == (published, 0)
                published += 1
                while_stuck += stuck.sending_since_s is not None
            assert stuck in app.streams.sessions
            assert stuck.mailbox.missed >= 400
            assert fast_session.mailbox.missed == 0


async def test_a_reader_that_stops_is_cut_off(running_app) -> None:
    limits = StreamLimits(send_timeout_s=0.2)
    async with running_app(limits=limits) as app, connect(app.stream) as fast:
        app.go_live()
        await subscribe(fast)
        with closing(await asyncio.to_thread(stop_reading, app.host, app.port)):
            await until(lambda: len(app.hub.topics[TOPIC].slots) == 2)
            received = 0
            while not app.streams.cut_off:
                app.publish(received)
                assert json.loads(await asyncio.wait_for(fast.recv(), 60))["data"]["update_id"] == received
                received += 1
            assert app.streams.cut_off == 1
            await until(lambda: len(app.streams.sessions) == 1)
            assert len(app.hub.topics[TOPIC].slots) == 1


async def test_a_slow_reader_catches_up_with_the_newest_and_knows_what_it_missed(running_app) -> None:
    async with running_app() as app:
        async with connect(app.stream, max_queue=1) as slow:
            app.go_live()
            state = await subscribe(slow)
            slow.transport.pause_reading()
            published = 0
            while not any(s.sending_since_s for s in app.streams.sessions):
                app.publish(published)
                published += 1
                await asyncio.sleep(0)
                assert published < 200_000
            for _ in range(50):
                app.publish(published)
                published += 1
                await asyncio.sleep(0)
            slow.transport.resume_reading()
            seq, update_id, missed = state["seq"], -1, 0
            while update_id < published - 1:
                message = json.loads(await asyncio.wait_for(slow.recv(), 60))
                assert message["seq"] == seq + 1 + message.get("missed", 0)
                missed += message.get("missed", 0)
                seq, update_id = message["seq"], message["data"]["update_id"]
            assert missed >= 49
            assert app.streams.missed == missed
        assert app.streams.missed == missed


async def test_bytes_that_are_no_http_and_frames_that_are_no_websocket_are_turned_away(running_app) -> None:
    def send_garbage() -> bytes:
        with socket.create_connection((app.host, app.port), timeout=60) as client:
            client.sendall(b"\x16\x03\x01\x02\x00\x01 this is no request\r\n\r\n")
            return client.recv(100)

    def send_unmasked() -> bytes:
        with closing(shake_hands(app.host, app.port)) as client:
            client.sendall(bytes([0x81, 2]) + b"{}")  # a client must mask what it sends
            return client.recv(100)

    async with running_app() as app, connect(app.stream) as other:
        await subscribe(other)
        assert (await asyncio.to_thread(send_garbage)).startswith(b"HTTP/1.1 400")
        assert (await asyncio.to_thread(send_unmasked))[2:4] == (1002).to_bytes(2, "big")
        assert (await ask(other, op="ping"))["success"]


async def test_a_client_that_pings_without_reading_the_answers_is_cut_off(running_app) -> None:
    def ping_without_end() -> int:
        sent = 0
        pings = bytes([0x89, 0x80 | 125, 0, 0, 0, 0]) + bytes(125)
        with closing(shake_hands(app.host, app.port)) as client, suppress(ConnectionError):
            while sent < 64_000_000:
                client.sendall(pings * 500)
                sent += 500 * len(pings)
        return sent

    async with running_app() as app:
        assert await asyncio.to_thread(ping_without_end) < 16_000_000
        await until(lambda: not app.streams.sessions)


async def test_stopping_sends_the_last_state_and_closes_with_1001(running_app) -> None:
    # A client that reads and answers is waited for by none of the limits.
    limits = StreamLimits(send_timeout_s=NEVER_S, close_timeout_s=NEVER_S)
    async with running_app(limits=limits) as app, connect(app.stream) as client:
        app.go_live()
        await subscribe(client)
        app.server.stop()
        last = json.loads(await client.recv())
        assert last["data"] == {"state": "stale", "reason": "the service is stopping"}
        assert await closed_with(client) == (1001, "the service is stopping")
        await asyncio.wait_for(asyncio.shield(app.task), 60)


async def test_stopping_does_not_wait_for_a_client_that_does_not_read(running_app) -> None:
    # It takes nothing for as long as it likes: the time for closing ends the wait, not that for sending.
    async with running_app(limits=StreamLimits(send_timeout_s=NEVER_S)) as app:
        with closing(await asyncio.to_thread(stop_reading, app.host, app.port)):
            app.go_live()
            await until(lambda: app.hub.topics[TOPIC].slots)
            while not any(session.sending_since_s for session in app.streams.sessions):
                app.publish(1)
                await asyncio.sleep(0)
            app.server.stop()
            await asyncio.wait_for(asyncio.shield(app.task), 60)


async def test_every_one_of_many_clients_gets_every_message(running_app) -> None:
    async with running_app() as app:
        clients = [await connect(app.stream) for _ in range(50)]
        app.go_live()
        for client in clients:
            await subscribe(client)
        for update_id in range(40):
            app.publish(update_id)
            await asyncio.sleep(0)
        app.hub.publish_state("BTCUSDT", SymbolState.STALE, "gap")
        for client in clients:
            received = []
            while (message := json.loads(await asyncio.wait_for(client.recv(), 60)))["type"] == "prediction":
                received.append(message["data"]["update_id"])
            assert received == list(range(40))
            assert message["data"] == {"state": "stale", "reason": "gap"}
            await client.close()
