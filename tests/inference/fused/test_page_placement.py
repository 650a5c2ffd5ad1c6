"""Weights moved to chosen pages: the same numbers, given back in the end; left alone where it cannot help."""

import gc
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from inference.fused import page_placement
from inference.fused.lanes import Words
from inference.fused.packing import aligned_words
from inference.fused.page_placement import PAGE_BYTES, PAGE_WORDS, place_pages

CACHE_BYTES = 256 * 1024
BUDGET_S = 0.05

movable = pytest.mark.skipif(
    not page_placement._supported(), reason="pages are moved on Linux and x86-64, by compiled code"
)


@pytest.fixture
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second-level cache of 256 KiB, so that a test's words are neither too few nor too many."""
    monkeypatch.setattr(page_placement, "second_level_bytes", lambda: CACHE_BYTES)


def random_words(count: int) -> Words:
    words = aligned_words(count)
    words[:] = np.random.default_rng(0).normal(size=count)
    return words


def mappings_within(first: int, size: int) -> int:
    """Mappings of this process that lie in the `size` bytes from `first`."""
    starts = (int(line.split("-")[0], 16) for line in Path("/proc/self/maps").read_text().splitlines())
    return sum(first <= start < first + size for start in starts)


@movable
def test_pages_come_to_lie_in_the_order_asked_for() -> None:
    pool = page_placement._private_pages(8)
    pages = np.frombuffer(pool, np.float32).reshape(8, PAGE_WORDS)
    pages[:] = np.arange(8)[:, None]
    gathered = page_placement._gather(pool, np.array([5, 2, 7]))
    assert gathered is not None
    assert (gathered.reshape(3, PAGE_WORDS) == [[5], [2], [7]]).all()
    assert (pages[[0, 1, 3, 4, 6]] == [[0], [1], [3], [4], [6]]).all(), "the others stay where they are"


@movable
@pytest.mark.usefixtures("small_cache")
@pytest.mark.parametrize("count", [CACHE_BYTES // 8 + 16, 50_000, CACHE_BYTES // 4])
def test_the_numbers_are_the_same_and_begin_on_a_page(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    totals = iter([2.0, 1.0])  # the sweep before and after: what is measured here is not the machine
    chosen = page_placement._choose_pages

    def choose(pool: Words, pages: int, budget_s: float) -> page_placement.Pages:
        order = chosen(pool, pages, budget_s)
        monkeypatch.setattr(page_placement, "_cycles_of", lambda *_: np.array([next(totals)]))
        return order

    monkeypatch.setattr(page_placement, "_choose_pages", choose)
    words = random_words(count)
    placed = place_pages(words, BUDGET_S)
    assert placed is not words
    assert placed.ctypes.data % PAGE_BYTES == 0
    np.testing.assert_array_equal(placed, words)
    placed[:] = 1.0  # writable, and not the pool's any more
    assert not np.array_equal(words, placed)


@movable
def test_a_choice_is_of_different_pages_of_the_pool() -> None:
    pool = np.frombuffer(page_placement._private_pages(40), np.float32)
    chosen = page_placement._choose_pages(pool, 20, BUDGET_S)
    assert len(set(chosen.tolist())) == 20
    assert set(chosen.tolist()) <= set(range(40))


@movable
def test_the_memory_goes_back_with_the_last_array() -> None:
    pool = page_placement._private_pages(64)
    gathered = page_placement._gather(pool, np.arange(0, 64, 2))
    assert gathered is not None
    first, size = gathered.ctypes.data, gathered.nbytes
    part = gathered[PAGE_WORDS:].reshape(-1, PAGE_WORDS)
    del gathered
    gc.collect()
    assert mappings_within(first, size) > 0, "an array still sees it"
    del part
    gc.collect()
    assert mappings_within(first, size) == 0


@pytest.mark.usefixtures("small_cache")
@pytest.mark.parametrize("count", [16, CACHE_BYTES // 8, CACHE_BYTES // 4 + 16])
def test_words_of_which_all_or_none_fit_stay(count: int) -> None:
    words = random_words(count)
    assert place_pages(words, BUDGET_S) is words


@pytest.mark.usefixtures("small_cache")
def test_words_stay_where_pages_cannot_be_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    words = random_words(50_000)
    monkeypatch.setattr(page_placement, "_gather", lambda *_: None)
    assert place_pages(words, BUDGET_S) is words
    monkeypatch.setattr(page_placement, "sys", SimpleNamespace(platform="darwin"))
    assert place_pages(words, BUDGET_S) is words


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of its caches")
def test_the_cache_is_as_large_as_the_system_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = tmp_path / "size"
    monkeypatch.setattr(page_placement, "_SECOND_LEVEL", said)
    for text, wanted in (("1024K\n", 1024 * 1024), ("what\n", 0)):
        said.write_text(text)
        page_placement.second_level_bytes.cache_clear()
        assert page_placement.second_level_bytes() == wanted
    said.unlink()
    page_placement.second_level_bytes.cache_clear()
    assert page_placement.second_level_bytes() == 0
    page_placement.second_level_bytes.cache_clear()
