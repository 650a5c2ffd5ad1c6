"""A seeded, endless stream of Bybit frames in which every delta changes the same number of levels a side.

It is made for timing, not for learning: nothing in it predicts anything. Its point is a constant amount of
work a frame, in the exchange's own text, on a book that moves: sizes change, levels appear (also inside the
spread) and vanish (also the best), and what enters near the touch pushes the deepest level out, so the book
always holds `depth` levels a side and is never crossed. Every delta changes at least one of the ten best
bids, so every delta is a sampled row under either sampling rule. A delta of more than three changes a side is
made of several such moves, none of which touches a price of another.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from lob.bybit import DEPTHS
from lob.errors import InputError

CHANGES_A_MOVE: Final = 3
SHARE_OF_SIZE_CHANGES: Final = 0.6
SHARE_OF_INSERTS: Final = 0.2  # the rest are deletes
SHARE_OF_INSERTS_INSIDE_A_WIDE_SPREAD: Final = 0.9  # wide: two free prices or more
LONGEST_STEP_TICKS: Final = 3  # from a level to one that appears before it
WIDEST_ROOM_TICKS: Final = 5  # free prices between the sides, beyond which no best level vanishes
INTERVAL_MS: Final = 20
FIRST_MS: Final = 1_700_000_000_000
FIRST_SEQUENCE: Final = 40_000_000_000
GATEWAY_DELAY_MS: Final = 2
RANDOM_NUMBERS_A_DRAW: Final = 8192


@dataclass(frozen=True, kw_only=True)
class DeltaStreamConfig:
    """What the stream is a stream of; sizes are in lots, prices in ticks, as the exchange prints them.

    `depth` is one of the venue's topics with deltas. Raises InputError where it is not, or where
    `changes_a_side` is not 1 or more and half of `depth` or less.
    """

    seed: int = 0
    symbol: str = "BTCUSDT"
    depth: int = 50
    changes_a_side: int = 3
    tick_size: str = "0.10"
    tick_hundredths: int = 10
    lot_decimals: int = 3
    start_ticks: int = 302_450
    largest_lots: int = 40_000

    def __post_init__(self) -> None:
        allowed = [depth for depth in DEPTHS if depth > 1]
        if self.depth not in allowed:
            raise InputError(f"depth: came {self.depth}; allowed: {', '.join(map(str, allowed))}")
        if not 1 <= self.changes_a_side <= self.depth // 2:
            raise InputError(
                f"changes_a_side: came {self.changes_a_side}; "
                f"allowed: 1 to {self.depth // 2}, half of the depth {self.depth}"
            )


class _Random:
    """Uniform numbers in [0, 1), drawn many at a time."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        self._numbers: list[float] = []

    def uniform(self) -> float:
        if not self._numbers:
            self._numbers = self._generator.random(RANDOM_NUMBERS_A_DRAW).tolist()
        return self._numbers.pop()

    def below(self, limit: int) -> int:
        return int(self.uniform() * limit)


class _Side:
    """One side as (distance, lots) pairs best first; a distance grows away from the touch.

    Bids count down from the best price and asks count up, so both are handled by one code: a bid's distance
    is minus its ticks, an ask's is its ticks.
    """

    def __init__(self, best: int, config: DeltaStreamConfig, random: _Random) -> None:
        self.depth = config.depth
        self.largest_lots = config.largest_lots
        self.random = random
        self.made: dict[int, int] = {}  # the changes of the delta being made
        self.distances: list[int] = []
        self.lots: list[int] = []
        distance = best
        for _ in range(config.depth):
            self.distances.append(distance)
            self.lots.append(self._some_lots())
            distance += self._step()

    def changes(self, count: int, *, other_best: int) -> list[tuple[int, int]]:
        """`count` changes (distance, new lots, 0 deletes), already made here; never crosses `other_best`."""
        self.made = {}
        while len(self.made) < count:
            left = count - len(self.made)
            kind = self.random.uniform() if left >= CHANGES_A_MOVE else 0.0
            if kind < SHARE_OF_SIZE_CHANGES:
                self._resize(min(left, CHANGES_A_MOVE))
            elif kind < SHARE_OF_SIZE_CHANGES + SHARE_OF_INSERTS:
                self._insert(other_best)
            else:
                self._delete(other_best)
        return sorted(self.made.items())

    def _resize(self, count: int) -> None:
        """New sizes at `count` levels, the first of them among the ten best if the delta changed none yet."""
        best = self.random.below(min(10, self.depth)) if not self.made else self._untouched_near_the_touch()
        chosen = {best}
        while len(chosen) < count:
            chosen.add(self._untouched_near_the_touch())
        for level in sorted(chosen):
            self._resize_level(level)

    def _insert(self, other_best: int) -> None:
        """A level appears, the deepest goes, a size changes; three size changes where no price is free."""
        room = self._room(other_best)
        inside_spread = room > 1 and self.random.uniform() < SHARE_OF_INSERTS_INSIDE_A_WIDE_SPREAD
        level = 0 if inside_spread else self._near_the_touch()
        free = room if level == 0 else self.distances[level] - self.distances[level - 1] - 1
        if free == 0:
            self._resize(CHANGES_A_MOVE)
            return
        distance = self.distances[level] - 1 - self.random.below(min(free, LONGEST_STEP_TICKS))
        if distance in self.made or self.distances[-1] in self.made:
            self._resize(CHANGES_A_MOVE)
            return
        resized_among_ten_best = not self.made
        lots = self._some_lots()
        self.distances.insert(level, distance)
        self.lots.insert(level, lots)
        self.made[distance] = lots
        self.made[self.distances.pop()] = 0
        self.lots.pop()
        self._resize_another(level, among_ten_best=resized_among_ten_best)

    def _delete(self, other_best: int) -> None:
        """A level vanishes, one appears behind the deepest, a size changes; a wide spread is not widened."""
        level = self._near_the_touch()
        if level == 0 and self._room(other_best) >= WIDEST_ROOM_TICKS:
            level = 1
        if self.distances[level] in self.made:
            self._resize(CHANGES_A_MOVE)
            return
        resized_among_ten_best = not self.made
        gone = self.distances.pop(level)
        self.lots.pop(level)
        self.made[gone] = 0
        distance = max(self.distances[-1], gone) + self._step()
        while distance in self.made:
            distance += self._step()
        lots = self._some_lots()
        self.distances.append(distance)
        self.lots.append(lots)
        self.made[distance] = lots
        self._resize_another(self.depth - 1, among_ten_best=resized_among_ten_best)

    def _resize_another(self, taken: int, *, among_ten_best: bool) -> None:
        """A new size at a level other than `taken`, which this move has touched."""
        if not among_ten_best:
            self._resize_level(self._untouched_near_the_touch())
            return
        level = self.random.below(min(10, self.depth - 1))
        self._resize_level(level + 1 if level == taken else level)

    def _resize_level(self, level: int) -> None:
        self.lots[level] = self._other_lots(self.lots[level])
        self.made[self.distances[level]] = self.lots[level]

    def _untouched_near_the_touch(self) -> int:
        """A level near the touch at whose price the delta has changed nothing yet."""
        while True:
            level = self._near_the_touch()
            if self.distances[level] not in self.made:
                return level

    def _room(self, other_best: int) -> int:
        """Free prices between the two sides."""
        return self.distances[0] + other_best - 1

    def _near_the_touch(self) -> int:
        """A level, the square of a uniform number deep: half of them in the best quarter."""
        share = self.random.uniform()
        return int(share * share * self.depth)

    def _step(self) -> int:
        return 1 + self.random.below(2) + (self.random.uniform() < 0.1) * self.random.below(5)

    def _some_lots(self) -> int:
        share = self.random.uniform()
        return 1 + int(share * share * share * self.largest_lots)

    def _other_lots(self, lots: int) -> int:
        new = self._some_lots()
        return new if new != lots else lots + 1


class DeltaStream:
    """The stream as an iterator: a snapshot frame first, then deltas without end.

    Iterating yields (receive_ns, frame) with `receive_ns` the exchange's gateway time in nanoseconds; two
    streams of equal configuration are equal byte for byte.
    """

    def __init__(self, config: DeltaStreamConfig) -> None:
        self.config = config

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Start again from the snapshot."""
        config = self.config
        random = _Random(config.seed)
        bids = _Side(-config.start_ticks, config, random)
        asks = _Side(config.start_ticks + 1, config, random)
        exchange_ms, update_id, sequence = FIRST_MS, 1, FIRST_SEQUENCE
        yield self._frame(
            "snapshot",
            list(zip(bids.distances, bids.lots, strict=True)),
            list(zip(asks.distances, asks.lots, strict=True)),
            exchange_ms,
            update_id,
            sequence,
        )
        while True:
            exchange_ms += INTERVAL_MS
            update_id += 1
            sequence += 1 + random.below(30)
            changed_bids = bids.changes(config.changes_a_side, other_best=asks.distances[0])
            changed_asks = asks.changes(config.changes_a_side, other_best=bids.distances[0])
            yield self._frame("delta", changed_bids, changed_asks, exchange_ms, update_id, sequence)

    def _frame(
        self,
        kind: str,
        bids: list[tuple[int, int]],
        asks: list[tuple[int, int]],
        exchange_ms: int,
        update_id: int,
        sequence: int,
    ) -> tuple[int, bytes]:
        config = self.config
        gateway_ms = exchange_ms + GATEWAY_DELAY_MS
        text = (
            f'{{"topic":"orderbook.{config.depth}.{config.symbol}","type":"{kind}","ts":{gateway_ms},'
            f'"data":{{"s":"{config.symbol}","b":[{self._levels(bids, -1)}],"a":[{self._levels(asks, 1)}],'
            f'"u":{update_id},"seq":{sequence}}},"cts":{exchange_ms}}}'
        )
        return gateway_ms * 1_000_000, text.encode()

    def _levels(self, levels: list[tuple[int, int]], sign: int) -> str:
        return ",".join(
            f'["{self._price(sign * distance)}","{self._size(lots)}"]' for distance, lots in levels
        )

    def _price(self, ticks: int) -> str:
        units, hundredths = divmod(ticks * self.config.tick_hundredths, 100)
        return f"{units}.{hundredths:02d}"

    def _size(self, lots: int) -> str:
        if lots == 0:
            return "0"
        units, rest = divmod(lots, 10**self.config.lot_decimals)
        return f"{units}.{rest:0{self.config.lot_decimals}d}"
