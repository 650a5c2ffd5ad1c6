"""Weights on chosen pages: the same numbers, for whoever maps them; left alone where it cannot help."""

import errno
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from inference.fused import page_placement
from inference.fused.lanes import Words
from inference.fused.packing import PAGE_BYTES, aligned_words
from inference.fused.page_file import PageFile, PageMapping
from inference.fused.page_placement import place_pages

CACHE_BYTES = 256 * 1024
BUDGET_S = 0.05

choosable = pytest.mark.skipif(
    not page_placement._supported(), reason="pages are chosen on Linux and x86-64, by compiled code"
)


@pytest.fixture
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second-level cache of 256 KiB, so that a test's words are neither too few nor too many."""
    monkeypatch.setattr(page_placement, "second_level_bytes", lambda: CACHE_BYTES)


def random_words(count: int) -> Words:
    words = aligned_words(count)
    words[:] = np.random.default_rng(0).normal(size=count)
    return words


@choosable
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
    chosen_pages = place_pages(words, BUDGET_S)
    assert chosen_pages is not None
    placed = chosen_pages.words
    assert placed.ctypes.data % PAGE_BYTES == 0
    np.testing.assert_array_equal(placed, words)
    mapping = PageMapping(chosen_pages.file.descriptor, chosen_pages.order)
    assert not mapping.map_next(len(chosen_pages.order))
    np.testing.assert_array_equal(mapping.words[:count], words)
    placed[:] = 1.0
    assert (mapping.words[:count] == 1.0).all(), "the same memory"
    assert not np.array_equal(words, placed)


@choosable
def test_a_choice_is_of_different_pages_of_the_pool() -> None:
    pool = np.frombuffer(PageFile(40).pool(), np.float32)
    chosen = page_placement._choose_pages(pool, 20, BUDGET_S)
    assert len(set(chosen.tolist())) == 20
    assert set(chosen.tolist()) <= set(range(40))


@pytest.fixture
def no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def search(*_: object) -> page_placement.Pages:
        raise AssertionError("no pages are to be chosen")

    monkeypatch.setattr(page_placement, "_choose_pages", search)


@pytest.mark.usefixtures("small_cache", "no_search")
@pytest.mark.parametrize("count", [16, CACHE_BYTES // 8, CACHE_BYTES // 4 + 16])
def test_words_of_which_all_or_none_fit_stay(count: int) -> None:
    assert place_pages(random_words(count), BUDGET_S) is None


@pytest.mark.usefixtures("small_cache", "no_search")
def test_words_stay_where_the_system_allows_no_file_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise OSError(errno.EACCES, "not allowed")

    monkeypatch.setattr(os, "memfd_create", refused, raising=False)
    assert place_pages(random_words(50_000), BUDGET_S) is None


@pytest.mark.usefixtures("small_cache", "no_search")
def test_words_stay_on_other_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_placement, "sys", SimpleNamespace(platform="darwin"))
    assert place_pages(random_words(50_000), BUDGET_S) is None


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
