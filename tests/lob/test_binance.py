"""Binance's frames, spot and futures, as captured and as broken."""

import gzip
import json
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lob.binance import BinanceDecoder
from lob.messages import BookUpdate, Malformed, Message, Other, Trade, Trades

FUTURES = (
    b'{"stream":"btcusd_perp@depth@0ms","data":{"e":"depthUpdate","E":1723161257460,"T":1723161257451,'
    b'"s":"BTCUSD_PERP","ps":"BTCUSD","U":1007198631580,"u":1007198631835,"pu":1007198631565,'
    b'"b":[["61777.6","0"]],"a":[]}}'
)
SPOT = (
    b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT",'
    b'"U":50093239189,"u":50093239202,"b":[],"a":[["61837.64000000","1.54698000"]]}}'
)
SNAPSHOT = b'{"lastUpdateId": 134180599, "bids": [["1.214", "63.38"]], "asks": [["1.216", "5"]]}'


def decode(frame: bytes) -> Message:
    return BinanceDecoder().decode(frame)


def test_futures_change() -> None:
    update = decode(FUTURES)
    assert isinstance(update, BookUpdate)
    assert bytes(update.bids) == b'[["61777.6","0"]]'
    assert bytes(update.asks) == b"[]"
    assert (update.symbol, update.is_snapshot, update.depth) == ("BTCUSD_PERP", False, 0)
    assert (update.first_update_id, update.update_id) == (1007198631580, 1007198631835)
    assert update.previous_update_id == 1007198631565
    assert (update.exchange_ms, update.gateway_ms) == (1723161257451, 1723161257460)


def test_spot_change() -> None:
    update = decode(SPOT)
    assert isinstance(update, BookUpdate)
    assert update.symbol == "BTCUSDT"
    assert (update.first_update_id, update.update_id) == (50093239189, 50093239202)
    assert update.previous_update_id == -1
    assert update.exchange_ms == update.gateway_ms == 1723161255208


def test_snapshot_of_spot_and_of_futures() -> None:
    spot = decode(SNAPSHOT)
    assert isinstance(spot, BookUpdate)
    assert spot.is_snapshot
    assert (spot.symbol, spot.update_id, spot.exchange_ms) == ("", 134180599, 0)
    assert bytes(spot.bids) == b'[["1.214", "63.38"]]'
    futures = decode(
        b'{"lastUpdateId":7,"E":1723161257835,"T":1723161257823,"symbol":"BTCUSD_PERP","bids":[],"asks":[]}'
    )
    assert isinstance(futures, BookUpdate)
    assert (futures.symbol, futures.exchange_ms, futures.gateway_ms) == (
        "BTCUSD_PERP",
        1723161257823,
        1723161257835,
    )


def test_other_streams() -> None:
    ticker = b'{"stream":"btcusdt@bookTicker","data":{"u":1,"s":"BTCUSDT","b":"1","B":"1","a":"2","A":"1"}}'
    assert decode(ticker) == Other("btcusdt@bookTicker")


def test_trades_of_spot_and_futures() -> None:
    spot = (
        b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,'
        b'"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}'
    )
    futures = (
        b'{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":5,"T":4,"s":"BTCUSDT","a":77,'
        b'"p":"61800.30","q":"0.006","f":1,"l":2,"m":false}}'
    )
    sold = Trade("BTCUSDT", 1723161255342, "61837.63000000", "0.02000000", -1, "3735683259")
    assert decode(spot) == Trades("btcusdt@trade", 1723161255343, [sold])
    bought = Trade("BTCUSDT", 4, "61800.30", "0.006", 1, "77")
    assert decode(futures) == Trades("btcusdt@aggTrade", 5, [bought])
    assert isinstance(decode(b'{"stream":"btcusdt@trade","data":{"e":"trade"}}'), Malformed)


@pytest.mark.parametrize("name", ["spot_nexousdt_20240723.dat.gz", "usdm_btcusdt_20240808.gz"])
def test_every_captured_trade_is_read(data_dir: Path, name: str) -> None:
    read = 0
    with gzip.open(data_dir / "binance" / name, "rb") as lines:
        for line in islice(lines, 20_000):
            frame = line.split(b" ", 1)[1]
            if b'@trade"' in frame:
                message = decode(frame)
                assert isinstance(message, Trades), message
                content = json.loads(frame)["data"]
                (trade,) = message.trades
                assert (trade.trade_id, trade.side) == (str(content["t"]), -1 if content["m"] else 1)
                assert (trade.price, trade.size, trade.exchange_ms) == (
                    content["p"],
                    content["q"],
                    content["T"],
                )
                read += 1
    assert read > 100


@pytest.mark.parametrize("name", ["s", "E", "U", "u", "b", "a"])
@pytest.mark.parametrize("value", [None, -1, {"x": 1}])
def test_changes_of_another_shape_are_malformed(name: str, value: object) -> None:
    frame = json.loads(FUTURES)
    frame["data"][name] = value
    if value is None:
        del frame["data"][name]
    message = decode(json.dumps(frame).encode())
    if name in {"b", "a"} and value is not None:
        assert isinstance(message, BookUpdate)  # levels are judged by the book
    else:
        assert isinstance(message, Malformed)


@pytest.mark.parametrize(
    "frame",
    [b"", b"x", FUTURES[:-1], SNAPSHOT[:-4], b"[" * 100_000, SPOT.replace(b'"BTCUSDT"', b'"\xff"')],
)
def test_frames_that_are_no_json_are_malformed(frame: bytes) -> None:
    message = decode(frame)
    assert isinstance(message, Malformed)


@pytest.mark.parametrize("frame", [b"{}", b"[]", b'{"lastUpdateId":1}', b'{"result":null,"id":1}'])
def test_json_of_no_known_shape_is_malformed(frame: bytes) -> None:
    message = decode(frame)
    assert isinstance(message, Malformed)
    assert message.reason


@given(st.sampled_from([FUTURES, SPOT, SNAPSHOT]), st.data())
def test_any_damage_has_an_answer(frame: bytes, data: st.DataObject) -> None:
    damaged = bytearray(frame)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    assert decode(bytes(damaged)) is not None
