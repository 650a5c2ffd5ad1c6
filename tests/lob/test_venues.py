"""Decoders by the venue's name."""

import pytest

from lob.binance import BinanceDecoder
from lob.bybit import BybitDecoder
from lob.errors import InputError
from lob.venues import make_decoder


def test_decoders_by_name() -> None:
    bybit, binance = make_decoder("bybit"), make_decoder("binance")
    assert isinstance(bybit, BybitDecoder)
    assert isinstance(binance, BinanceDecoder)
    assert (bybit.venue, bybit.snapshot_apart) == ("bybit", False)
    assert (binance.venue, binance.snapshot_apart) == ("binance", True)


def test_unknown_venue() -> None:
    with pytest.raises(InputError, match="venue: unknown name 'okx'; allowed: bybit, binance"):
        make_decoder("okx")
