"""Options that hold for all symbols or for one of them: `VALUE` or `SYMBOL=VALUE`, as often as wanted."""

from collections.abc import Sequence

from lob.errors import InputError


def per_symbol(option: str, given: Sequence[str]) -> tuple[str | None, dict[str, str]]:
    """(the value for all symbols, the values for single ones); raises InputError where one comes twice."""
    for_all: str | None = None
    for_one: dict[str, str] = {}
    for text in given:
        symbol, equals, value = text.rpartition("=")
        twice = symbol in for_one if equals else for_all is not None
        if twice or not value or (equals and not symbol):
            raise InputError(
                f"{option}: {text!r} came; allowed: VALUE once, and SYMBOL=VALUE once for each symbol"
            )
        if equals:
            for_one[symbol] = value
        else:
            for_all = value
    return for_all, for_one


def milliseconds(option: str, text: str) -> int:
    """A whole number of milliseconds above 0; raises InputError."""
    if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text) > 0):
        raise InputError(f"{option}: {text!r} came, a whole number of milliseconds above 0 is allowed")
    return int(text)
