"""Statistics of more rows than fit in memory: above a bound they are taken from every k-th row.

Neighbouring rows are nearly equal and their labels overlap, so that a quarter of a million rows spread evenly
over a long stream say as much as all of them, in memory that does not grow with it.
"""

MAXIMUM_ROWS = 1 << 18
"""Rows that a statistic is taken from at most; up to so many it is taken from all."""


def every(rows: int) -> int:
    """k such that every k-th of `rows` rows are at most MAXIMUM_ROWS."""
    return max(1, -(-rows // MAXIMUM_ROWS))
