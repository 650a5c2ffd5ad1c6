"""A tick size that changes while a service or a recorder runs, over real sockets."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lob.captures import open_capture
from lob.errors import InputError
from lob.instrument import Instrument
from lob.market import MarketConfiguration
from serve.exchange import Exchange, ExchangeConfiguration
from serve.feed_policies import ResyncPolicy
from serve.instrument_cache import InstrumentCache, InstrumentInfo
from serve.instrument_watch import InstrumentChangedError, InstrumentWatch
from serve.listing import simulated_listing
from serve.reconnect import ReconnectPolicy
from serve.recorder import Recorder, RecorderConfig
from serve.service import Service, ServiceConfig
from tests.serve.waiting import until

pytestmark = pytest.mark.anyio

SOON = ReconnectPolicy(initial_s=0.02, factor=1, cap_s=0.02)
PATIENCE = ResyncPolicy(minimum_interval_s=0.05, snapshot_timeout_s=0.3)


@asynccontextmanager
async def exchange(tick_size: str, port: int = 0) -> AsyncIterator[Exchange]:
    listing = simulated_listing([MarketConfiguration(seed=3, tick_size=tick_size)])
    async with Exchange(listing, ExchangeConfiguration(port=port)) as running:
        yield running


def serving(models_dir, url: str, **options) -> ServiceConfig:
    settings = {
        "symbols": ("BTCUSDT",),
        "url": url,
        "category": "linear",
        "model": "tiny",
        "models_dir": models_dir,
        "port": 0,
        "reconnect": SOON,
        "resync": PATIENCE,
    }
    return ServiceConfig(**(settings | options))


def off_grid_reasons(caplog) -> list[str]:
    return [
        one.getMessage()
        for one in caplog.records
        if one.levelno == logging.WARNING and "off the grid of tick size" in one.getMessage()
    ]


async def test_a_service_whose_tick_size_changed_ends_and_says_so(models_dir, tmp_path) -> None:
    async with exchange("0.10") as first:
        url, port = first.url("linear"), first.port
        service = await asyncio.to_thread(Service, serving(models_dir, url, cache_dir=tmp_path))
        running = asyncio.create_task(service.run())
        pipeline = service.symbols["BTCUSDT"].pipeline
        await until(lambda: pipeline.counters["predictions"] > 0)
    async with exchange("0.01", port):
        with pytest.raises(InstrumentChangedError, match=r"BTCUSDT is 0\.01 now, and was 0\.10 at the start"):
            await asyncio.wait_for(running, 20)
    kept = InstrumentCache(tmp_path).read(f"127.0.0.1:{port}", "linear", "BTCUSDT")
    assert kept is not None
    assert kept.tick_size == "0.01"  # the next start has it, whether or not the exchange answers then


async def test_a_price_off_the_grid_is_the_reason_in_state_and_log(models_dir, caplog) -> None:
    async with exchange("0.01") as running_exchange:
        config = serving(models_dir, running_exchange.url("linear"), tick_sizes={"BTCUSDT": "0.10"})
        service = await asyncio.to_thread(Service, config)
        running = asyncio.create_task(service.run())
        topic = service.hub.topic_of("BTCUSDT")
        reasons: set[str] = set()

        def given_up() -> bool:
            reasons.add(topic.reason)
            return service.feed.counters.connections > 1

        await until(given_up)
        service.stop()
        await running  # the operator's own tick size is not held against the exchange
    assert any(reason.startswith("malformed book message: price ") for reason in reasons)
    (line, *_) = (line for line in off_grid_reasons(caplog) if "no usable snapshot in 0.3 s" in line)
    assert line.index("malformed book message: price ") < line.index("; connecting again")
    assert service.symbols["BTCUSDT"].pipeline.counters["predictions"] == 0


async def test_a_recording_whose_tick_size_changed_ends_and_stays_readable(tmp_path, caplog) -> None:
    path = tmp_path / "btc.jsonl.zst"
    async with exchange("0.10") as first:
        url, port = first.url("linear"), first.port
        config = RecorderConfig(
            url=url,
            instrument=Instrument(symbol="BTCUSDT", tick_size="0.10"),
            stall_ms=5_000,
            path=path,
            watch_instrument=True,
            reconnect=SOON,
            resync=PATIENCE,
        )
        recorder = await asyncio.to_thread(Recorder, config)
        running = asyncio.create_task(recorder.run())
        await until(lambda: recorder._consumer.snapshots > 0)
    async with exchange("0.01", port):
        with pytest.raises(InstrumentChangedError, match=r"BTCUSDT is 0\.01 now"):
            await asyncio.wait_for(running, 20)
    assert "malformed after update" in off_grid_reasons(caplog)[0]
    (left,) = tmp_path.glob("*.part")
    assert sum(1 for _ in open_capture(left)) > 1


class Book:
    """A book that a price off the grid can be shown to."""

    def __init__(self) -> None:
        self.price = ""
        self.looks = 0

    @property
    def off_grid_price(self) -> str:
        self.looks += 1
        return self.price


async def test_the_exchange_is_asked_on_suspicion_alone_and_its_silence_is_no_answer(caplog) -> None:
    book, answers, asked = Book(), ["", "0.1", "0.01"], []

    async def ask(symbol: str) -> InstrumentInfo:
        asked.append(symbol)
        tick_size = answers.pop(0)
        if not tick_size:
            raise InputError("the exchange was asked and does not answer")
        return InstrumentInfo(
            source="", category="linear", symbol=symbol, tick_size=tick_size, lot_size="", fetched_ms=1
        )

    instrument = Instrument(symbol="BTCUSDT", tick_size="0.10")
    watch = InstrumentWatch({instrument: book}, ask, policy=SOON, check_interval_s=0.01)
    running = asyncio.create_task(watch.run())
    await until(lambda: book.looks >= 3)
    assert asked == []
    book.price = "100.05"
    await until(lambda: len(asked) >= 2)  # 0.1 is 0.10: nothing has changed
    with pytest.raises(InstrumentChangedError):
        await asyncio.wait_for(running, 5)
    assert len(asked) == 3
    assert "is the tick size of BTCUSDT still 0.10? the exchange was asked" in caplog.text
