"""The digest of a book: the same from arrays as level by level, another for another book."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lob.book_digest import ASK, BID, MASK, book_digest, level_digest

Book = dict[float, float]
sides = st.dictionaries(st.floats(0.01, 1e6), st.floats(1e-8, 1e9), max_size=30)


def digest(bids: Book, asks: Book) -> int:
    columns = [np.array(list(part)) for book in (bids, asks) for part in (book.keys(), book.values())]
    return book_digest(*columns)


@given(sides, sides)
def test_arrays_and_levels_agree_in_any_order(bids: Book, asks: Book) -> None:
    levels = [(BID, *level) for level in bids.items()] + [(ASK, *level) for level in asks.items()]
    whole = sum(level_digest(*level) for level in levels) & MASK
    assert digest(bids, asks) == whole
    assert digest(dict(reversed(bids.items())), dict(reversed(asks.items()))) == whole


@given(sides.filter(bool), sides)
def test_another_book_has_another_digest(bids: Book, asks: Book) -> None:
    price, size = next(iter(bids.items()))
    whole = digest(bids, asks)
    assert digest(bids | {price: np.nextafter(size, 1e12)}, asks) != whole
    assert digest({other: bids[other] for other in bids if other != price}, asks) != whole
    if bids != asks:
        assert digest(asks, bids) != whole
