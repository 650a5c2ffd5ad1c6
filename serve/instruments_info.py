"""`GET /v5/market/instruments-info` as Bybit answers it, for the instruments that the local exchange lists.

Source: Bybit API documentation v5, "Get Instruments Info", and recorded answers of its refusals. Every listed
instrument is found in every category, as a capture does not say which one it is of.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from serve.bybit_stream import CATEGORIES
from serve.listing import ListedInstrument

CONTRACT_TYPES = {"linear": "LinearPerpetual", "inverse": "InversePerpetual"}


def instruments_info(
    instruments: Sequence[ListedInstrument], query: Mapping[str, str], time_ms: int
) -> bytes:
    """The answer to a request with the parameters `query`; refusals too come with HTTP status 200."""
    category, symbol = query.get("category", ""), query.get("symbol", "")
    if category not in CATEGORIES:
        return _answer(10001, "Illegal category", {}, time_ms)
    listed = [_described(one, category) for one in instruments if symbol in {"", one.symbol}]
    if not listed and category != "spot":
        nothing = {"category": "", "list": [], "nextPageCursor": ""}
        return _answer(10001, "params error: symbol invalid", nothing, time_ms)
    return _answer(0, "OK", {"category": category, "list": listed, "nextPageCursor": ""}, time_ms)


def _described(instrument: ListedInstrument, category: str) -> dict[str, Any]:
    lot_name = "basePrecision" if category == "spot" else "qtyStep"
    described: dict[str, Any] = {
        "symbol": instrument.symbol,
        "status": "Trading",
        "lotSizeFilter": {lot_name: instrument.lot_size, "minOrderQty": instrument.lot_size},
        "priceFilter": {"tickSize": instrument.tick_size},
    }
    if category in CONTRACT_TYPES:
        described["contractType"] = CONTRACT_TYPES[category]
    return described


def _answer(code: int, message: str, result: dict[str, Any], time_ms: int) -> bytes:
    return msgspec.json.encode(
        {"retCode": code, "retMsg": message, "result": result, "retExtInfo": {}, "time": time_ms}
    )
