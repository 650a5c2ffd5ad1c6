"""Memory for weights whose pages do not push one another out of the second-level cache.

A page's physical address decides which lines of that cache it may take, and the system hands pages out by
chance. Weights that would just fit then do not: some groups of lines get more pages than they have room for,
and each step fetches those from the third level. Physical addresses are hidden, so pages are chosen by what
reading them takes: a pool of twice as many is swept in the order of a step, slow pages are exchanged for
others of the pool, and an exchange stays if the sweep got faster. The chosen pages are then moved (`mremap`)
to consecutive addresses. Nothing of this changes a number; where it is not to be had the weights stay as they
are. Source of the idea: Kessler and Hill, "Page placement algorithms for large real-indexed caches" (1992).
"""

import ctypes
import mmap
import platform
import sys
import time
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import config

from inference.fused.cycle_counter import cycle_count
from inference.fused.lanes import Words, add, load, store
from lob.kernel import unlocked_kernel

Pages: TypeAlias = npt.NDArray[np.int64]

PAGE_BYTES: Final = 4096
PAGE_WORDS: Final = PAGE_BYTES // 4
BUDGET_S: Final = 0.3
"""The search ends after so long, whatever it has found."""

_SECOND_LEVEL = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
_SMALLEST_SHARE, _LARGEST_SHARE = 0.5, 1.0  # of the cache: less fits anyhow, more never does
_POOL_FACTOR = 2
_PAGES_A_TURN, _PAUSE_S = 16, 0.000_1  # all at once would keep other threads from Python for a millisecond
_ROUNDS = 10  # sweeps that one measurement takes its medians of
_LARGEST_EXCHANGE = 16  # pages
_REMEASURED_EVERY = 16  # exchanges: what else runs on the machine changes what a sweep takes
_MREMAP_MAYMOVE, _MREMAP_FIXED, _MREMAP_DONTUNMAP = 1, 2, 4
_SEED = 44


def place_pages(words: Words, budget_s: float = BUDGET_S) -> Words:
    """`words` copied to pages that stay in the cache together; `words` itself where that does not help.

    `words` begin on a page. It can help on Linux and x86-64, where they take between half and all of the
    second-level cache. Takes `budget_s` and some. The memory is given back with the last array that sees it.
    """
    if not takes_a_search(words):
        return words
    count = -(-words.nbytes // PAGE_BYTES)
    pool = _private_pages(_POOL_FACTOR * count)
    chosen = _choose_pages(np.frombuffer(pool, np.float32), count, budget_s)
    placed = _gather(pool, chosen)
    if placed is None:
        return words
    placed[: words.size] = words
    before = _cycles_of(words, np.arange(words.size // PAGE_WORDS))  # whole pages only
    after = _cycles_of(placed, np.arange(words.size // PAGE_WORDS))
    return placed[: words.size] if after.sum() < before.sum() else words


def takes_a_search(words: Words) -> bool:
    """Whether `place_pages` searches for `words`, for as long as its budget says."""
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
    return sys.platform == "linux" and platform.machine() == "x86_64" and not config.DISABLE_JIT


def _private_pages(count: int) -> mmap.mmap:
    """`count` zero pages of their own: huge ones could not be exchanged one by one."""
    pages = mmap.mmap(-1, count * PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        pages.madvise(mmap.MADV_NOHUGEPAGE)
    first_bytes = np.frombuffer(pages, np.uint8)[::PAGE_BYTES]
    for first in range(0, count, _PAGES_A_TURN):
        first_bytes[first : first + _PAGES_A_TURN] = 0  # a page exists once it is written to
        time.sleep(_PAUSE_S)
    return pages


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


def _gather(pool: mmap.mmap, order: Pages) -> Words | None:
    """The pages of `order` moved out of `pool` to consecutive addresses; None where the system refuses."""
    remap = ctypes.CDLL(None, use_errno=True).mremap
    remap.restype = ctypes.c_void_p
    remap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p)
    target = mmap.mmap(-1, order.size * PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    words = np.frombuffer(target, np.float32)
    source_at, target_at = np.frombuffer(pool, np.uint8).ctypes.data, words.ctypes.data
    # Without DONTUNMAP the pool would have holes, in which another thread's memory might come to lie
    # before the pool is given back.
    flags = _MREMAP_MAYMOVE | _MREMAP_FIXED | _MREMAP_DONTUNMAP
    for place, page in enumerate(order.tolist()):
        to = target_at + place * PAGE_BYTES
        if remap(source_at + page * PAGE_BYTES, PAGE_BYTES, PAGE_BYTES, flags, to) != to:
            return None
    return words


@unlocked_kernel
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
