import pytest

from lob.errors import InputError
from serve.symbol_options import milliseconds, per_symbol


def test_values_for_all_and_for_one() -> None:
    assert per_symbol("stall-ms", ()) == (None, {})
    assert per_symbol("stall-ms", ("100", "ETHUSDT=200")) == ("100", {"ETHUSDT": "200"})


@pytest.mark.parametrize(
    "given",
    [("1", "2"), ("A=1", "A=2"), ("=1",), ("A=",), ("",)],
    ids=["twice", "again", "nobody", "no", "none"],
)
def test_what_is_ambiguous_is_refused(given: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"stall-ms: '.*' came; allowed: VALUE once, and SYMBOL"):
        per_symbol("stall-ms", given)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x", "\u0661", "9" * 20])
def test_milliseconds_are_whole_and_above_zero(text: str) -> None:
    assert milliseconds("stall-ms", "250") == 250
    with pytest.raises(InputError, match="stall-ms: "):
        milliseconds("stall-ms", text)
