"""A number that stands for a whole book: equal for equal books, and kept up to date level by level.

It is the sum, modulo 2**64, of one hash a level, so that it does not depend on the order of changes: who
keeps a book in dictionaries adds and subtracts the levels that change, who keeps arrays sums them at once. It
tells right from wrong books in tests; it is no cryptographic hash.
"""

import struct

import numpy as np
import numpy.typing as npt

MASK = 2**64 - 1
FIRST_FACTOR, SECOND_FACTOR = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""Of splitmix64's finaliser (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators")."""

BID, ASK = 0x9E3779B97F4A7C15, 0x3C6EF372FE94F82A
"""What is added to a price's bits for its side: two odd-spaced constants of splitmix64's sequence."""

Floats = npt.NDArray[np.float64]
_two_words = struct.Struct("<QQ")
_two_floats = struct.Struct("<dd")


def level_digest(side: int, price: float, size: float) -> int:
    """One level's share of the digest; `side` is BID or ASK."""
    price_bits, size_bits = _two_words.unpack(_two_floats.pack(price, size))
    return _mixed(_mixed((price_bits + side) & MASK) ^ size_bits)


def book_digest(bid_prices: Floats, bid_sizes: Floats, ask_prices: Floats, ask_sizes: Floats) -> int:
    """The digest of a book given as arrays, (n,) and (m,), in any order."""
    sides = ((BID, bid_prices, bid_sizes), (ASK, ask_prices, ask_sizes))
    return sum(_side_digest(side, prices, sizes) for side, prices, sizes in sides) & MASK


def _mixed(word: int) -> int:
    word = (word ^ (word >> 30)) * FIRST_FACTOR & MASK
    word = (word ^ (word >> 27)) * SECOND_FACTOR & MASK
    return word ^ (word >> 31)


def _side_digest(side: int, prices: Floats, sizes: Floats) -> int:
    price_bits = np.ascontiguousarray(prices, np.float64).view(np.uint64)
    size_bits = np.ascontiguousarray(sizes, np.float64).view(np.uint64)
    words = _mixed_words(_mixed_words(price_bits + np.uint64(side)) ^ size_bits)
    return int(words.sum(dtype=np.uint64))


def _mixed_words(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(FIRST_FACTOR)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(SECOND_FACTOR)
    return words ^ (words >> np.uint64(31))
