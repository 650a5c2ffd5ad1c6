"""Families of metrics as Prometheus' text, made in turns of the event loop that each are short.

`prometheus_client` writes the text, some samples at a time. All samples of a family have to stand together
under one HELP and TYPE, so each family's text grows by itself until the page is whole.
"""

from collections.abc import Iterable, Sequence

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from serve.turns import Turns

SAMPLES_A_TURN = 16
"""Samples written between two turns of the event loop, some microseconds each."""

PIECE_BYTES = 64 * 1024
"""The page is handed out in pieces of this size and up to twice it: each is copied in one turn."""


class Exposition:
    """One page that is being made."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._texts: dict[str, bytearray] = {}
        self._headers: dict[str, bytes] = {}

    async def take(self, families: Iterable[Metric], least: int = 0) -> None:
        """Write the samples of each family that has `least` of them or more; it has none afterwards."""
        for family in families:
            if family.name not in self._texts:
                header = self._headers[family.name] = _text(family, [])
                self._texts[family.name] = bytearray(header)
                await self._turns.give_way()
            if len(family.samples) < least:
                continue
            samples, family.samples = family.samples, []
            for start in range(0, len(samples), SAMPLES_A_TURN):
                written = _text(family, samples[start : start + SAMPLES_A_TURN])
                self._texts[family.name] += written.removeprefix(self._headers[family.name])
                await self._turns.give_way()

    async def pieces(self) -> list[bytes]:
        """The page, families in the order in which they first came."""
        pieces, piece = [], bytearray()
        for text in self._texts.values():
            for start in range(0, len(text), PIECE_BYTES):
                piece += text[start : start + PIECE_BYTES]
                if len(piece) >= PIECE_BYTES:
                    pieces.append(bytes(piece))
                    piece.clear()
                    await self._turns.give_way()
        return [*pieces, bytes(piece)]


class _One:
    """What `generate_latest` asks for families: it answers one, with some of its samples."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


def _text(family: Metric, samples: Sequence[Sample]) -> bytes:
    some = Metric(family.name, family.documentation, family.type)
    some.samples = list(samples)
    return generate_latest(_One(some))
