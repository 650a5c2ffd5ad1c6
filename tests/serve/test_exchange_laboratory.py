"""The local exchange as a fault laboratory, over real sockets: many topics, limits, faults, and the truth."""

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from lob.book import BookStatus, OrderBook
from lob.book_digest import book_digest
from lob.bybit import BybitDecoder
from lob.errors import InputError
from lob.market import MarketConfiguration
from lob.messages import Acknowledgement, BookUpdate, Malformed, Pong
from mambalob import main
from serve.exchange import Exchange, ExchangeConfiguration
from serve.fault_plan import FaultPlan, FaultRule
from serve.listing import simulated_listing
from serve.playback import Pace

pytestmark = pytest.mark.anyio

TOPIC = "orderbook.50.BTCUSDT"
DEPTHS = (1, 50, 200, 1000)


@asynccontextmanager
async def running(
    *rules: FaultRule,
    symbols: tuple[str, ...] = ("BTCUSDT",),
    depths: tuple[int, ...] = (50,),
    trades: bool = False,
    speed: float = 5,
    plan: FaultPlan | None = None,
    **changes: Any,
) -> AsyncIterator[Exchange]:
    """An exchange on a free port, with faults."""
    markets = [MarketConfiguration(symbol=symbol, depth=depth) for symbol in symbols for depth in depths]
    configuration = ExchangeConfiguration(
        port=0,
        pace=Pace(speed=speed),
        faults=plan or FaultPlan(rules=rules),
        kept_books=20_000,
        **changes,
    )
    async with Exchange(simulated_listing(markets, trades=trades), configuration) as exchange:
        yield exchange


def client(exchange: Exchange, category: Any = "linear", **settings: Any) -> connect:
    settings = {"ping_interval": None, "close_timeout": 0.2, "max_size": 1 << 20} | settings
    return connect(exchange.url(category), compression=None, proxy=None, **settings)


async def ask(connection: ClientConnection, operation: str, *topics: str) -> dict[str, Any]:
    """Send a request and answer the reply to it; what is pushed before that is passed over."""
    await connection.send(json.dumps({"op": operation, "args": topics}))
    while True:
        message = json.loads(await receive(connection))
        if "topic" not in message:
            return message


async def receive(connection: ClientConnection) -> str | bytes:
    async with asyncio.timeout(10):
        return await connection.recv()


async def pushed(connection: ClientConnection, count: int) -> list[dict[str, Any]]:
    return [json.loads(await receive(connection)) for _ in range(count)]


async def until_closed(connection: ClientConnection) -> tuple[list[str | bytes], ConnectionClosed]:
    """What came until the connection ended, and how it ended."""
    frames = []
    while True:
        try:
            frames.append(await receive(connection))
        except ConnectionClosed as closed:
            return frames, closed


class Keeper:
    """Our own book of one topic, held against the exchange's at every update."""

    def __init__(self, exchange: Exchange, topic: str) -> None:
        listed = {one.symbol: one for one in exchange.listing.instruments}
        symbol = topic.split(".")[2]
        configuration = MarketConfiguration(symbol=symbol, tick_size=listed[symbol].tick_size)
        self.book = OrderBook(configuration.instrument, capacity=4_096)
        self.compared = 0
        self._exchange = exchange
        self._topic = topic

    def apply(self, update: BookUpdate) -> BookStatus:
        status = self.book.apply(update)
        if status in {BookStatus.OK, BookStatus.SNAPSHOT}:
            truth = self._exchange.books.digests(self._topic, update.update_id)
            assert digest_of(self.book) in truth, f"a wrong book at {self._topic} {update.update_id}"
            self.compared += 1
        return status


def digest_of(book: OrderBook) -> int:
    sides = [np.array(side).reshape(-1, 2) for side in book.printed(4_096)]
    return book_digest(*(column for side in sides for column in (side[:, 0], side[:, 1])))


# --- many topics


async def test_all_depths_and_trades_of_two_symbols_are_one_book_each() -> None:
    symbols = ("BTCUSDT", "ETHUSDT")
    async with (
        running(symbols=symbols, depths=DEPTHS, trades=True) as exchange,
        client(exchange) as one,
        client(exchange) as other,
    ):
        books = [f"orderbook.{depth}.{symbol}" for symbol in symbols for depth in DEPTHS]
        trades = [f"publicTrade.{symbol}" for symbol in symbols]
        assert set(exchange.timelines) == {*books, *trades}
        keepers = {topic: Keeper(exchange, topic) for topic in books}
        others = {topic: Keeper(exchange, topic) for topic in books}
        assert (await ask(one, "subscribe", *books, *trades))["success"]
        decoder, traded = BybitDecoder(), 0
        for i in range(2_500):
            if i == 300:
                assert (await ask(other, "subscribe", *books))["success"]
            for connection, kept in ((one, keepers), (other, others if i > 300 else {})):
                if connection is other and not kept:
                    continue
                frame = await receive(connection)
                assert isinstance(frame, str)
                if frame.startswith('{"topic":"publicTrade.'):
                    traded += 1
                    continue
                message = decoder.decode(frame.encode())
                assert isinstance(message, BookUpdate)
                assert (
                    kept[f"orderbook.{message.depth}.{message.symbol}"].apply(message) <= BookStatus.SNAPSHOT
                )
        assert traded > 50
        assert all(keeper.compared > 10 for keeper in (*keepers.values(), *others.values()))
        assert exchange.faults.counts == {}


async def test_pybit_keeps_the_same_book_as_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    unified_trading = pytest.importorskip("pybit.unified_trading")
    seen: dict[str, dict[int, int]] = {}

    def take(message: dict[str, Any]) -> None:
        """pybit gives its own book, whole, after every message."""
        sides = [np.array(message["data"][side], float).reshape(-1, 2) for side in "ba"]
        columns = [column for side in sides for column in (side[:, 0], side[:, 1])]
        seen.setdefault(message["topic"], {})[message["data"]["u"]] = book_digest(*columns)

    async with running(depths=(50, 200), speed=3) as exchange, client(exchange) as connection:
        address = f"ws://127.0.0.1:{exchange.port}/v5/public/{{CHANNEL_TYPE}}"
        monkeypatch.setattr(unified_trading, "PUBLIC_WSS", address)
        topics = [TOPIC, "orderbook.200.BTCUSDT"]
        keepers = {topic: Keeper(exchange, topic) for topic in topics}
        ours: dict[str, dict[int, int]] = {topic: {} for topic in topics}
        assert (await ask(connection, "subscribe", *topics))["success"]

        def listen() -> Any:
            session = unified_trading.WebSocket(channel_type="linear", testnet=False)
            for depth in (50, 200):
                session.orderbook_stream(depth, "BTCUSDT", take)
            return session

        listening = asyncio.create_task(asyncio.to_thread(listen))
        decoder = BybitDecoder()
        for _ in range(700):
            message = decoder.decode(await connection.recv(decode=False))
            assert isinstance(message, BookUpdate)
            topic = f"orderbook.{message.depth}.{message.symbol}"
            keepers[topic].apply(message)
            ours[topic][message.update_id] = digest_of(keepers[topic].book)
        session = await listening
        await asyncio.to_thread(session.exit)
    for topic, least in ((TOPIC, 200), ("orderbook.200.BTCUSDT", 30)):
        both = seen[topic].keys() & ours[topic].keys()
        assert len(both) > least
        assert all(seen[topic][number] == ours[topic][number] for number in both)


# --- limits


async def test_arguments_are_limited_for_the_whole_connection() -> None:
    async with running(depths=DEPTHS) as exchange, client(exchange) as connection:
        long = ["orderbook.50." + "X" * 2_000 for _ in range(11)]
        answer = await ask(connection, "subscribe", *long)
        assert answer["success"] is False  # an unknown topic comes before the length
        exchange.timelines.update({f"made.{i}." + "X" * 5_000: exchange.timelines[TOPIC] for i in range(5)})
        made = [topic for topic in exchange.timelines if topic.startswith("made")]
        assert (await ask(connection, "subscribe", *made[:4]))["success"]
        answer = await ask(connection, "subscribe", made[4])
        assert (answer["success"], answer["ret_msg"]) == (False, "error:args length >21000")
        await ask(connection, "unsubscribe", made[0])
        assert (await ask(connection, "subscribe", made[4]))["success"]


async def test_connections_are_limited() -> None:
    async with running(maximum_connections=2) as exchange, client(exchange), client(exchange) as second:
        with pytest.raises(InvalidStatus) as refused:
            async with client(exchange):
                pass
        assert refused.value.response.status_code == 403
        assert exchange.counters.turned_away == 1
        await second.close()
        await asyncio.sleep(0.05)
        async with client(exchange) as third:
            assert (await ask(third, "ping"))["ret_msg"] == "pong"


async def test_a_silent_connection_is_ended_and_a_ping_or_a_stream_keeps_it() -> None:
    async with (
        running(idle_s=0.4) as exchange,
        client(exchange) as silent,
        client(exchange) as pinging,
        client(exchange) as listening,
    ):
        assert (await ask(listening, "subscribe", TOPIC))["success"]
        for _ in range(8):
            await asyncio.sleep(0.1)
            assert (await ask(pinging, "ping"))["ret_msg"] == "pong"
        with pytest.raises(ConnectionClosed) as closed:
            await receive(silent)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1000, "nothing was said for 0.4 s")
        assert len(await pushed(listening, 100)) == 100
        assert exchange.counters.idle == 1


# --- faults of a connection


@pytest.mark.parametrize(("kind", "code"), [("close", 1012), ("abort", 1006), ("cut", 1006)])
async def test_connections_that_end(kind: str, code: int) -> None:
    async with running(FaultRule(kind=kind, after=20)) as exchange:
        async with client(exchange) as connection:
            assert (await ask(connection, "subscribe", TOPIC))["success"]
            frames, closed = await until_closed(connection)
            assert (closed.rcvd.code if closed.rcvd is not None else 1006) == code
            assert all(json.loads(frame)["topic"] == TOPIC for frame in frames)  # nothing cut short is given
            assert 20 <= len(frames) <= 22
        async with client(exchange) as again:
            assert (await ask(again, "subscribe", TOPIC))["success"]
            numbers = [message["data"]["u"] for message in await pushed(again, 30)]
            assert numbers == list(range(numbers[0], numbers[0] + 30))
        assert exchange.faults.counts == {kind: 1}


@pytest.mark.parametrize(
    "rule",
    [
        FaultRule(kind="drip", after=10, seconds=0.4),
        FaultRule(kind="freeze", after=10, seconds=0.4),
        FaultRule(kind="fragments", every=3, frames=7),
        FaultRule(kind="oversized", every=10, bytes=100_000),
    ],
)
async def test_bytes_that_come_otherwise_and_are_all_there(rule: FaultRule) -> None:
    clock = asyncio.get_running_loop().time
    async with running(rule, speed=1) as exchange, client(exchange, ping_interval=0.1) as connection:
        keeper, decoder = Keeper(exchange, TOPIC), BybitDecoder()
        await connection.send(json.dumps({"op": "subscribe", "args": [TOPIC]}))
        arrived_s = []
        for _ in range(60):
            frame = await receive(connection)
            message = decoder.decode(frame.encode() if isinstance(frame, str) else frame)
            if isinstance(message, BookUpdate):
                assert keeper.apply(message) <= BookStatus.SNAPSHOT
            arrived_s.append(clock())
        assert keeper.compared == 59
        longest_s = max(later - before for before, later in pairwise(arrived_s))
        if rule.kind == "freeze":
            assert longest_s > 0.35


async def test_an_oversized_frame_ends_a_connection_that_bounds_its_frames() -> None:
    rule = FaultRule(kind="oversized", after=10)
    async with running(rule) as exchange, client(exchange) as connection:
        await connection.send(json.dumps({"op": "subscribe", "args": [TOPIC]}))
        _, closed = await until_closed(connection)
        assert closed.sent is not None
        assert closed.sent.code == 1009


async def test_connections_are_refused_for_some_seconds() -> None:
    clock = asyncio.get_running_loop().time
    rule = FaultRule(kind="refuse", after=10, seconds=0.6)
    async with running(rule) as exchange, client(exchange) as connection:
        began_s, refused = clock(), 0
        await connection.send(json.dumps({"op": "subscribe", "args": [TOPIC]}))
        await until_closed(connection)
        while True:
            try:
                async with client(exchange) as again:
                    assert (await ask(again, "subscribe", TOPIC))["success"]
                    assert (await pushed(again, 1))[0]["type"] == "snapshot"
                    break
            except OSError:
                refused += 1
                await asyncio.sleep(0.02)
        assert refused > 0
        assert clock() - began_s > 0.6


async def test_an_exchange_may_be_left_while_it_refuses() -> None:
    async with running() as exchange:
        async with client(exchange) as connection:
            exchange.refuse(30)
            await until_closed(connection)
        with pytest.raises(OSError, match="Connect call failed"):
            async with client(exchange):
                pass


async def test_a_subscription_is_rejected_and_the_next_one_is_not() -> None:
    async with running(FaultRule(kind="reject")) as exchange, client(exchange) as connection:
        answer = await ask(connection, "subscribe", TOPIC)
        assert (answer["success"], answer["op"]) == (False, "subscribe")
        assert "injected fault" in answer["ret_msg"]
        assert (await ask(connection, "subscribe", TOPIC))["success"]
        assert exchange.faults.counts == {"reject": 1}


async def test_a_later_subscription_gets_a_delta_before_its_snapshot() -> None:
    rule = FaultRule(kind="delta-first", after=1)
    async with running(rule) as exchange, client(exchange) as first, client(exchange) as second:
        assert (await ask(first, "subscribe", TOPIC))["success"]
        assert [message["type"] for message in await pushed(first, 2)] == ["snapshot", "delta"]
        assert (await ask(second, "subscribe", TOPIC))["success"]
        delta, snapshot, after = await pushed(second, 3)
        assert [message["type"] for message in (delta, snapshot, after)] == ["delta", "snapshot", "delta"]
        assert [message["data"]["u"] - snapshot["data"]["u"] for message in (delta, after)] == [-1, 1]


# --- held against the truth


async def test_random_faults_never_leave_a_client_that_checks_with_a_wrong_book() -> None:
    """A plain client by Bybit's rules: it resubscribes after a gap and connects again after an end."""
    plan = FaultPlan(random_every_s=0.15, seed=1)
    topics = [TOPIC, "orderbook.200.BTCUSDT"]
    async with running(depths=(50, 200), speed=20, plan=plan) as exchange, asyncio.timeout(120):
        keepers = {topic: Keeper(exchange, topic) for topic in topics}
        lost = ended = 0

        def is_enough() -> bool:
            injected, compared = exchange.faults.counts.total(), [one.compared for one in keepers.values()]
            return injected > 40 and lost + ended > 12 and min(compared) > 500

        while not is_enough():
            decoder = BybitDecoder()
            try:
                async with client(exchange, open_timeout=1) as connection:
                    await connection.send(json.dumps({"op": "subscribe", "args": topics}))
                    while not is_enough():
                        async with asyncio.timeout(1.5):
                            message = decoder.decode(await connection.recv(decode=False))
                        if isinstance(message, Acknowledgement):
                            if not message.success:
                                break
                        elif isinstance(message, BookUpdate):
                            topic = f"orderbook.{message.depth}.{message.symbol}"
                            status = keepers[topic].apply(message)
                            if not keepers[topic].book.usable and status is not BookStatus.WAITING:
                                lost += 1
                                for operation in ("unsubscribe", "subscribe"):
                                    await connection.send(json.dumps({"op": operation, "args": [topic]}))
                        else:
                            assert isinstance(message, Malformed | Pong)
            except (OSError, ConnectionClosed, TimeoutError):
                ended += 1
                for keeper in keepers.values():
                    keeper.book.invalidate()
                await asyncio.sleep(0.02)


# --- the command


def get(url: str) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=5) as response:
        return json.load(response)


async def test_logs_and_health_tell_what_was_injected(tmp_path: Path) -> None:
    logs: dict[str, Any] = {"fault_log": tmp_path / "faults.jsonl", "book_log": tmp_path / "books.jsonl"}
    async with running(FaultRule(kind="drop", every=10), **logs) as exchange, client(exchange) as connection:
        assert (await ask(connection, "subscribe", TOPIC))["success"]
        messages = await pushed(connection, 60)
        health = await asyncio.to_thread(get, f"http://127.0.0.1:{exchange.port}/healthz")
        assert health["faults"]["drop"] >= 6
        assert health["counters"]["connections"] == 1
    faults = [json.loads(line) for line in logs["fault_log"].read_text().splitlines()]
    books = [json.loads(line) for line in logs["book_log"].read_text().splitlines()]
    assert len(faults) == exchange.faults.counts["drop"]
    numbers = {message["data"]["u"] for message in messages}
    assert [fault["u"] - messages[0]["data"]["u"] for fault in faults[:6]] == [10, 20, 30, 40, 50, 60]
    assert numbers.isdisjoint(fault["u"] for fault in faults)
    assert set(faults[0]) == {"time_ns", "market_ns", "topic", "kind", "u", "heard"}
    assert numbers < {book["u"] for book in books}
    for book in books:
        assert exchange.books.digests(TOPIC, book["u"]) == (int(book["digest"], 16),)
        assert (book["topic"], book["bids"], book["asks"]) == (TOPIC, 50, 50)
    with pytest.raises(InputError, match=r"faults\.jsonl: cannot be created \(File exists\)"):
        async with running(**logs):
            pass


def invoke(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["exchange", "--simulate", *map(str, arguments)])
    return done.exit_code, done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("--fault", "dorp"), 1, "fault: 'dorp' came; allowed: drop, "),
        (("--fault", "drop:evry=3"), 1, "'evry' came in 'drop:evry=3'; allowed: topic, every, "),
        (("--fault", "drop:every=many"), 1, "'every=many' came"),
        (("--fault", "drop:every=0"), 1, "drop: every: 0 came; allowed: whole numbers from 1"),
        (
            ("--fault", "oversized:bytes=999999999999"),
            1,
            "oversized: bytes: 999999999999 came; allowed: at most",
        ),
        (("--fault", "drop:probability=2"), 1, "probability: 2.0 came; allowed: above 0, to 1"),
        (("--fault", "drop:seconds=2"), 1, "seconds: came for drop; allowed: for stall, freeze"),
        (("--fault", "stall:seconds=-2"), 1, "seconds: -2.0 came"),
        (("--fault", "drop:every=2,probability=0.5"), 1, "several came"),
        (("--faults", "no-such-script"), 1, "no-such-script: cannot be read as a script of faults"),
        (("--fault-every", "3"), 2, "--fault-every and --fault-kind are for --faults random"),
        (("--fault-kind", "nope", "--faults", "random"), 2, "'nope' is not one of"),
        (("--max-connections", "0"), 2, "0 is not in the range"),
        (("--idle-seconds", "0"), 2, "0"),
    ],
)
def test_the_command_refuses_in_one_line(arguments: tuple[str, ...], code: int, expected: str) -> None:
    returned, error = invoke(*arguments)
    assert returned == code
    assert expected in error


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nonsense", "allowed: JSON objects"),
        ('{"fault":"drop"}\n{"every":3}', "line 2: "),
        ('[{"fault":"drop"},5]', "item 2: 5 came"),
        ('{"fault":"drop","every":"3"}', "line 1: drop: every: 3 came"),
        ('{"fault":"drop","wat":3}', "line 1: "),
    ],
)
def test_scripts_that_are_refused(tmp_path: Path, text: str, expected: str) -> None:
    script = tmp_path / "script.jsonl"
    script.write_text(text)
    code, error = invoke("--faults", script)
    assert code == 1
    assert f"{script}: " in error
    assert expected in error
