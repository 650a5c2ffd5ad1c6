"""The local exchange while hundreds of its markets begin: whoever asks meanwhile is answered meanwhile."""

import asyncio
import json
from itertools import pairwise

import pytest
from websockets.asyncio.client import connect

from lob.market import MarketConfiguration
from serve.exchange import Exchange, ExchangeConfiguration
from serve.listing import simulated_listing
from serve.playback import Pace

pytestmark = pytest.mark.anyio

MARKETS = 200


async def test_others_are_answered_while_hundreds_of_markets_begin() -> None:
    symbols = [f"COIN{number}USDT" for number in range(MARKETS)]
    listing = simulated_listing([MarketConfiguration(symbol=symbol) for symbol in symbols])
    configuration = ExchangeConfiguration(port=0, pace=Pace(speed=0.05))
    async with (
        Exchange(listing, configuration) as exchange,
        connect(exchange.url(), compression=None, ping_interval=None) as subscriber,
        connect(exchange.url(), compression=None, ping_interval=None) as other,
    ):
        begun: set[str] = set()

        async def listen() -> None:
            async for text in subscriber:
                message = json.loads(text)
                if message.get("type") == "snapshot":
                    begun.add(message["topic"])

        listening = asyncio.create_task(listen())
        topics = [f"orderbook.50.{symbol}" for symbol in symbols]
        await subscriber.send(json.dumps({"op": "subscribe", "args": topics}))
        begun_at_pongs = []
        async with asyncio.timeout(60):
            while len(begun) < MARKETS:
                await other.send('{"op":"ping"}')
                assert json.loads(await other.recv())["ret_msg"] == "pong"
                begun_at_pongs.append(len(begun))
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    # Opening one market takes many times what an answer does, so hundreds between two answers are a queue.
    steps = [after - before for before, after in pairwise([0, *begun_at_pongs])]
    assert max(steps) < MARKETS // 4
    assert exchange.counters.requests == 1 + len(begun_at_pongs)
