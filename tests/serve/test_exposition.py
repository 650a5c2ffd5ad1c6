"""A page made some samples a turn is, byte for byte, the one `prometheus_client` makes at once."""

from collections.abc import Iterable

import pytest
from prometheus_client import generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric

import serve.exposition
from serve.exposition import PIECE_BYTES, SAMPLES_A_TURN, Exposition
from serve.turns import Turns
from tests.serve.turn_count import counting_turns

pytestmark = pytest.mark.anyio


class Families:
    """What `generate_latest` asks for families: the plain twin."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self.families = families

    def collect(self) -> Iterable[Metric]:
        return self.families


def families() -> list[Metric]:
    """One of each kind, one of them empty, with texts that have to be escaped."""
    return [
        InfoMetricFamily("a_thing", 'It has a "name"', {"name": 'quo"ted\\'}),
        CounterMetricFamily("some_frames", "Frames\nby line", labels=("symbol", "status")),
        HistogramMetricFamily("some_latency_seconds", "How long", labels=("symbol",)),
        GaugeMetricFamily("a_gauge", "None of these"),
        GaugeMetricFamily("another_gauge", "Up \\ down", labels=("symbol",)),
    ]


def add_symbol(to: list[Metric], symbol: str) -> None:
    _, frames, latency, _, gauge = to
    assert isinstance(frames, CounterMetricFamily)
    assert isinstance(latency, HistogramMetricFamily)
    assert isinstance(gauge, GaugeMetricFamily)
    for number, status in enumerate(("row", "gap", "late")):
        frames.add_metric((symbol, status), number)
    latency.add_metric((symbol,), [("0.1", 1.0), ("0.5", 2.0), ("+Inf", 4.0)], 3.25)
    gauge.add_metric((symbol,), 1e9 + 0.5)


@pytest.mark.parametrize("least", [0, 1, 7, SAMPLES_A_TURN, 10_000])
async def test_samples_of_a_family_stand_together_however_they_came(least, monkeypatch) -> None:
    symbols = [f'COIN{number}"USDT' for number in range(50)]
    whole = families()
    for symbol in symbols:
        add_symbol(whole, symbol)
    async with counting_turns() as count:

        def noted(registry: Families) -> bytes:
            count.note(sum(len(family.samples) for family in registry.collect()))
            return generate_latest(registry)

        monkeypatch.setattr(serve.exposition, "generate_latest", noted)
        page, growing = Exposition(Turns()), families()
        for symbol in symbols:
            add_symbol(growing, symbol)
            await page.take(growing, least)
        await page.take(growing)
        pieces = await page.pieces()
        assert count.most == {0: 5, 1: 5, 7: 10}.get(least, SAMPLES_A_TURN)  # a histogram has five a symbol
    assert b"".join(pieces) == generate_latest(Families(whole))


async def test_a_long_page_comes_in_pieces_each_made_in_a_turn_of_its_own() -> None:
    family = GaugeMetricFamily("a_gauge", "Some values", labels=("symbol",))
    for number in range(5_000):
        family.add_metric((f"COIN{number:030}USDT",), number)
    expected = generate_latest(Families([family]))
    page = Exposition(Turns())
    await page.take([family])
    async with counting_turns() as count:
        before = count.now
        pieces = await page.pieces()
        assert count.now - before == len(pieces) - 1 > 3
    assert b"".join(pieces) == expected
    assert {len(piece) for piece in pieces[:-1]} == {PIECE_BYTES}


async def test_short_families_share_a_piece_and_long_ones_do_not_make_it_much_longer() -> None:
    page, whole = Exposition(Turns()), []
    for number in range(300):
        family = GaugeMetricFamily(f"gauge_{number}", "Some values", labels=("symbol",))
        for symbol in range(500 if number % 50 == 0 else 1):
            family.add_metric((f"COIN{symbol:090}USDT",), symbol)
        whole.append(family)
    expected = generate_latest(Families(whole))
    await page.take(whole)
    pieces = await page.pieces()
    assert b"".join(pieces) == expected
    assert all(PIECE_BYTES <= len(piece) < 2 * PIECE_BYTES for piece in pieces[:-1])
    assert len(pieces) > 3
