"""An instrument's tick size, asked of the exchange over HTTP before a feed is opened.

Source: Bybit API documentation v5, "Get Instruments Info": `GET /v5/market/instruments-info`. The local
exchange answers the same request on its own port.
"""

import http.client
import urllib.error
import urllib.request
from urllib.parse import urlencode

import msgspec

from lob.errors import InputError
from lob.instrument import Instrument
from serve.bybit_stream import CATEGORIES, rest_base_url
from serve.venue_connection import is_this_machine

TIMEOUT_S = 10.0
MAXIMUM_ANSWER_BYTES = 1024 * 1024


class _PriceFilter(msgspec.Struct, rename="camel"):
    tick_size: str


class _Listed(msgspec.Struct, rename="camel"):
    symbol: str
    price_filter: _PriceFilter


class _Result(msgspec.Struct):
    listed: list[_Listed] = msgspec.field(name="list", default_factory=list)


class _Answer(msgspec.Struct, rename="camel"):
    ret_code: int
    ret_msg: str = ""
    result: _Result = msgspec.field(default_factory=_Result)


def fetch_instrument(
    stream_url: str, category: str, symbol: str, *, timeout_s: float = TIMEOUT_S
) -> Instrument:
    """The instrument `symbol` of `category`, from the exchange behind `stream_url`; blocks for the answer.

    Raises InputError where the exchange cannot be reached, does not list the symbol, or answers otherwise
    than documented; each message tells that `--tick-size` does without the question.
    """
    if category not in CATEGORIES:
        raise InputError(f"category: {category!r} came, {', '.join(CATEGORIES)} are allowed")
    query = urlencode({"category": category, "symbol": symbol})
    url = f"{rest_base_url(stream_url)}/v5/market/instruments-info?{query}"
    # The proxy of the environment, except for an address of this machine.
    proxies = urllib.request.ProxyHandler({} if is_this_machine(url) else None)
    opener = urllib.request.build_opener(proxies)
    try:
        with opener.open(url, timeout=timeout_s) as response:
            body = response.read(MAXIMUM_ANSWER_BYTES + 1)
    except urllib.error.HTTPError as error:
        error.close()
        raise _unknown(url, symbol, f"it answers HTTP {error.code}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = getattr(error, "reason", None) or error
        reason = getattr(cause, "strerror", None) or cause
        raise _unknown(url, symbol, f"it cannot be reached ({reason})") from error
    if len(body) > MAXIMUM_ANSWER_BYTES:
        raise _unknown(url, symbol, f"its answer is above {MAXIMUM_ANSWER_BYTES} bytes")
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unknown(url, symbol, f"its answer is not the documented one ({error})") from error
    if answer.ret_code != 0:
        raise _unknown(url, symbol, f"it answers {answer.ret_code} {answer.ret_msg}")
    for listed in answer.result.listed:
        if listed.symbol == symbol:
            return Instrument(symbol=symbol, tick_size=listed.price_filter.tick_size)
    raise _unknown(url, symbol, f"it does not list {symbol} among its {category} instruments")


def _unknown(url: str, symbol: str, reason: str) -> InputError:
    return InputError(
        f"the tick size of {symbol} is not known: {url} was asked and {reason}; "
        "give it with --tick-size to do without"
    )
