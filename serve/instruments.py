"""An instrument's tick and lot size, asked of the exchange over HTTP before a feed is opened.

Source: Bybit API documentation v5, "Get Instruments Info": `GET /v5/market/instruments-info`. The local
exchange answers the same request on its own port.
"""

import logging
import time
from urllib.parse import urlencode, urlsplit

import msgspec

from lob.errors import InputError
from lob.instrument import Instrument
from lob.venues import Venue
from serve.binance_stream import fetch_binance_info, rest_url
from serve.bybit_stream import CATEGORIES, rest_base_url
from serve.http_get import HttpError, http_get
from serve.instrument_cache import InstrumentCache, InstrumentInfo

logger = logging.getLogger(__name__)

TIMEOUT_S = 10.0


class NoAnswerError(InputError):
    """The exchange gave no answer, or none that can be used: what it said before may still hold."""


class _PriceFilter(msgspec.Struct, rename="camel"):
    tick_size: str


class _LotSizeFilter(msgspec.Struct, rename="camel"):
    qty_step: str = ""
    base_precision: str = ""  # the spot market's name for it


class _Listed(msgspec.Struct, rename="camel"):
    symbol: str
    price_filter: _PriceFilter
    lot_size_filter: _LotSizeFilter = msgspec.field(default_factory=_LotSizeFilter)


class _Result(msgspec.Struct):
    listed: list[_Listed] = msgspec.field(name="list", default_factory=list)


class _Answer(msgspec.Struct, rename="camel"):
    ret_code: int
    ret_msg: str = ""
    result: _Result = msgspec.field(default_factory=_Result)


def find_instrument(
    stream_url: str,
    category: str,
    symbol: str,
    *,
    venue: Venue = "bybit",
    cache: InstrumentCache | None = None,
    timeout_s: float = TIMEOUT_S,
) -> InstrumentInfo:
    """What the exchange says of `symbol`, or said before where it does not answer now; blocks.

    Every answer is kept in `cache`. The kept one is used, with a warning that tells its age, only where the
    exchange gives no usable answer; that it does not list the symbol is an answer. Raises InputError as
    `fetch_instrument` does.
    """
    base_url = rest_base_url(stream_url) if venue == "bybit" else rest_url(stream_url, category)
    source = urlsplit(base_url).netloc
    try:
        if venue == "bybit":
            info = fetch_info(stream_url, category, symbol, timeout_s=timeout_s)
        else:
            info = _fetch_elsewhere(stream_url, category, symbol)
    except NoAnswerError as error:
        kept = None if cache is None else cache.read(source, category, symbol)
        if kept is None:
            raise
        logger.warning(
            "%s; using what it said %s ago: tick size %s", error, age_text(kept.age_s()), kept.tick_size
        )
        return kept
    if cache is not None:
        cache.write(info)
    return info


def fetch_instrument(
    stream_url: str, category: str, symbol: str, *, timeout_s: float = TIMEOUT_S
) -> Instrument:
    """The instrument `symbol` of `category`, from the exchange behind `stream_url`; blocks for the answer.

    Raises InputError where the exchange cannot be reached, does not list the symbol, or answers otherwise
    than documented; each message tells that `--tick-size` does without the question.
    """
    return fetch_info(stream_url, category, symbol, timeout_s=timeout_s).instrument


def fetch_info(
    stream_url: str, category: str, symbol: str, *, timeout_s: float = TIMEOUT_S
) -> InstrumentInfo:
    """All that is asked of the exchange about `symbol`; raises as `fetch_instrument` does.

    NoAnswerError, an InputError, tells that the exchange was silent or not itself.
    """
    if category not in CATEGORIES:
        raise InputError(f"category: {category!r} came, {', '.join(CATEGORIES)} are allowed")
    query = urlencode({"category": category, "symbol": symbol})
    url = f"{rest_base_url(stream_url)}/v5/market/instruments-info?{query}"
    try:
        answer = msgspec.json.decode(http_get(url, timeout_s=timeout_s), type=_Answer)
    except HttpError as error:
        raise NoAnswerError(_unknown(url, symbol, str(error))) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NoAnswerError(
            _unknown(url, symbol, f"its answer is not the documented one ({error})")
        ) from error
    if answer.ret_code != 0:
        raise InputError(_unknown(url, symbol, f"it answers {answer.ret_code} {answer.ret_msg}"))
    for listed in answer.result.listed:
        if listed.symbol == symbol:
            lot = listed.lot_size_filter
            info = InstrumentInfo(
                source=urlsplit(url).netloc,
                category=category,
                symbol=symbol,
                tick_size=listed.price_filter.tick_size,
                lot_size=lot.qty_step or lot.base_precision,
                fetched_ms=time.time_ns() // 1_000_000,
            )
            _ = info.instrument  # a tick size that is none is found here
            return info
    raise InputError(_unknown(url, symbol, f"it does not list {symbol} among its {category} instruments"))


def _fetch_elsewhere(stream_url: str, category: str, symbol: str) -> InstrumentInfo:
    try:
        return fetch_binance_info(stream_url, category, symbol)
    except HttpError as error:
        raise NoAnswerError(_unknown(rest_url(stream_url, category), symbol, str(error))) from error


def age_text(seconds: float) -> str:
    """An age for people: its largest unit that is at least one."""
    for unit, length_s in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= length_s:
            return f"{seconds / length_s:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _unknown(url: str, symbol: str, reason: str) -> str:
    return (
        f"the tick size of {symbol} is not known: {url} was asked and {reason}; "
        "give it with --tick-size to do without"
    )
