"""Which symbol's frame comes next: in turn, or a few symbols most of the time."""

from typing import Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from lob.errors import InputError

Arrivals: TypeAlias = Literal["round-robin", "zipf"]
ARRIVALS: Final[tuple[Arrivals, ...]] = get_args(Arrivals)

ZIPF_EXPONENT: Final = 1.0
"""The r-th busiest symbol has 1 / r of the busiest one's frames (Zipf's law), as a few symbols have most of a
venue's traffic."""


def arrival_order(arrivals: Arrivals, symbols: int, count: int, *, seed: int) -> NDArray[np.int64]:
    """The symbols (count,) whose frames come, in order; each below `symbols`.

    Raises InputError where there is no symbol.
    """
    if symbols < 1:
        raise InputError(f"symbols: {symbols} came; allowed: 1 or more")
    if arrivals == "round-robin":
        return np.arange(count, dtype=np.int64) % symbols
    shares = 1.0 / np.arange(1, symbols + 1) ** ZIPF_EXPONENT
    order = np.random.default_rng(seed).choice(symbols, size=count, p=shares / shares.sum())
    return order.astype(np.int64)
