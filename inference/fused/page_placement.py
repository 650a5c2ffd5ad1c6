"""Memory for weights whose pages do not push one another out of the second-level cache.

A page's physical address decides which lines of that cache it may take, and the system hands pages out by
chance. Weights that would just fit then do not: some groups of lines get more pages than they have room for,
and each step fetches those from the third level. Physical addresses are hidden, so pages are chosen by what
reading them takes: a pool of twice as many is swept in the order of a step, slow pages are exchanged for
others of the pool, and an exchange stays if the sweep got faster. The chosen pages are then mapped to
consecutive addresses, here or in another process. Nothing of this changes a number; where it is not to be had
the weights stay as they are. Source of the idea: Kessler and Hill, "Page placement algorithms for large
real-indexed caches" (1992).
"""

import os
import platform
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import config

from inference.fused.cycle_counter import cycle_count
from inference.fused.lanes import Words, add, load, store
from inference.fused.packing import PAGE_BYTES
from inference.fused.page_file import PageFile, PageMapping
from lob.kernel import kernel

Pages: TypeAlias = npt.NDArray[np.int64]

PAGE_WORDS: Final = PAGE_BYTES // 4
BUDGET_S: Final = 0.3
"""The search ends after so long, whatever it has found."""

_SECOND_LEVEL = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
_SMALLEST_SHARE, _LARGEST_SHARE = 0.5, 1.0  # of the cache: less fits anyhow, more never does
_POOL_FACTOR = 2
_ROUNDS = 10  # sweeps that one measurement takes its medians of
_LARGEST_EXCHANGE = 16  # pages
_REMEASURED_EVERY = 16  # exchanges: what else runs on the machine changes what a sweep takes
_SEED = 44


@dataclass(frozen=True, kw_only=True)
class ChosenPages:
    """Words on pages that stay in the cache together."""

    words: Words
    file: PageFile
    """The file the pages are of, for whoever maps them in another process; open as long as this lives."""
    order: tuple[int, ...]
    """The pages of the file, in the order in which they hold the words."""


def place_pages(words: Words, budget_s: float = BUDGET_S) -> ChosenPages | None:
    """A copy of `words` on pages that stay in the cache together; None where that does not help.

    `words` begin on a page. It can help on Linux and x86-64, where they take between half and all of the
    second-level cache. Takes `budget_s` and some.
    """
    if not _takes_a_search(words):
        return None
    count = -(-words.nbytes // PAGE_BYTES)
    try:
        file = PageFile(_POOL_FACTOR * count)
        pool = np.frombuffer(file.pool(), np.float32)
        pool[::PAGE_WORDS] = 0.0  # a page exists once it is written to
        # Which pages are read together matters, not which first; neighbours become one mapping.
        order = sorted(_choose_pages(pool, count, budget_s).tolist())
        del pool
        file.keep_only(order)
        mapping = PageMapping(file.descriptor, order)
        mapping.map_next(count)
    except OSError:  # no room, or not allowed
        return None
    placed = mapping.words[: words.size]
    placed[:] = words
    before = _cycles_of(words, np.arange(words.size // PAGE_WORDS))  # whole pages only
    after = _cycles_of(placed, np.arange(words.size // PAGE_WORDS))
    if after.sum() >= before.sum():
        return None
    return ChosenPages(words=placed, file=file, order=tuple(order))


def _takes_a_search(words: Words) -> bool:
    share = words.nbytes / second_level_bytes() if second_level_bytes() else 0.0
    return _SMALLEST_SHARE < share <= _LARGEST_SHARE and _supported()


@cache
def second_level_bytes() -> int:
    """The size of a core's second-level cache; 0 where the system does not say."""
    try:
        return int(_SECOND_LEVEL.read_text().strip().removesuffix("K")) * 1024
    except (OSError, ValueError):
        return 0


def _supported() -> bool:
    on_linux = sys.platform == "linux" and hasattr(os, "memfd_create")
    return on_linux and platform.machine() == "x86_64" and not config.DISABLE_JIT


def _choose_pages(pool: Words, count: int, budget_s: float) -> Pages:
    """`count` pages of `pool`, in an order in which sweeping them again and again is fast."""
    rng = np.random.default_rng(_SEED)
    chosen, spare = np.split(np.arange(pool.size // PAGE_WORDS), [count])
    cycles = _cycles_of(pool, chosen)
    until = time.monotonic() + budget_s
    tried = 0
    while time.monotonic() < until:
        excess = np.maximum(cycles - np.percentile(cycles, 10), 0) ** 2
        slow = np.flatnonzero(excess)
        size = min(int(rng.integers(1, _LARGEST_EXCHANGE + 1)), slow.size)
        if size == 0:
            break
        out = rng.choice(count, size, replace=False, p=excess / excess.sum())
        back = rng.choice(spare.size, size, replace=False)
        candidate = chosen.copy()
        candidate[out] = spare[back]
        candidate_cycles = _cycles_of(pool, candidate)
        if candidate_cycles.sum() < cycles.sum():
            spare[back] = chosen[out]
            chosen, cycles = candidate, candidate_cycles
        tried += 1
        if tried % _REMEASURED_EVERY == 0:
            cycles = _cycles_of(pool, chosen)
    return chosen


def _cycles_of(pool: Words, order: Pages) -> npt.NDArray[np.float64]:
    """Median cycles that each page of `order` takes within a sweep of all, (pages,)."""
    cycles = np.empty((_ROUNDS, order.size), np.int64)
    _sweep(pool, order, cycles, np.zeros(16, np.float32))
    medians: npt.NDArray[np.float64] = np.median(cycles[2:], axis=0)  # the first ones fetch the pages
    return medians


@kernel
def _sweep(pool: Words, order: Pages, cycles: Pages, sink: Words) -> None:
    """Read the pages of `order` front to back, once for each row of `cycles` (rounds, pages)."""
    total = load(pool, 0)
    for turn in range(cycles.shape[0]):
        before = cycle_count()
        for place in range(order.size):
            at = order[place] * PAGE_WORDS
            even, odd = load(pool, at), load(pool, at + 16)
            for word in range(at + 32, at + PAGE_WORDS, 32):
                even, odd = add(even, load(pool, word)), add(odd, load(pool, word + 16))
            total = add(total, add(even, odd))
            now = cycle_count()
            cycles[turn, place] = now - before
            before = now
    store(sink, 0, total)  # or the compiler leaves the reading out
