"""What a feature row holds: the names and the order of its columns, and when a row is taken."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from lob.errors import InputError

LEVELS = 10
"""Book levels a side that a row looks at."""

Sampling = Literal["every_message", "top_changed"]
"""When a row is taken: after every applied book message, or when the first `LEVELS` levels changed."""


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The named columns of a feature row, float32, computed in float64.

    A model names its schema and hash and refuses rows of any other.
    """

    name: str
    version: int
    feature_names: tuple[str, ...]

    @property
    def feature_count(self) -> int:
        """F, the length of a row."""
        return len(self.feature_names)

    @cached_property
    def hash(self) -> str:
        """sha256, in hex, of the canonical JSON of name, version and feature names."""
        content = {"feature_names": self.feature_names, "name": self.name, "version": self.version}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _lob44_names() -> tuple[str, ...]:
    levels = [
        f"{side}_{quantity}_{level}"
        for level in range(1, LEVELS + 1)
        for side in ("bid", "ask")
        for quantity in ("price", "size")
    ]
    return (*levels, "microprice", "spread", "imbalance_1", "ofi")


LOB44 = Schema(name="lob44", version=1, feature_names=_lob44_names())
"""Ten levels a side, interleaved from the touch outwards, then four numbers of the whole book.

`bid_price_i` is (mid - price) / tick, `ask_price_i` (price - mid) / tick, sizes are log1p(size); `microprice`
is (microprice - mid) / tick, `spread` is in ticks, `imbalance_1` is (qb - qa) / (qb + qa) and `ofi` the
order-flow imbalance since the previous row (Cont, Kukanov and Stoikov 2014, summed over ten levels). A level
the book does not have repeats the price of the deepest one it has, with size 0.
"""

FEATURE_COUNT = LOB44.feature_count
"""F of `LOB44`."""

SCHEMAS = {schema.name: schema for schema in (LOB44,)}


def schema_named(name: str) -> Schema:
    """The schema called `name`; raises InputError where there is none."""
    try:
        return SCHEMAS[name]
    except KeyError:
        raise InputError(f"schema: unknown name {name!r}; allowed: {', '.join(SCHEMAS)}") from None


def check_sampling(sampling: str) -> Sampling:
    """`sampling` itself if it is one of the two kinds; raises InputError otherwise."""
    if sampling == "every_message":
        return "every_message"
    if sampling == "top_changed":
        return "top_changed"
    raise InputError(f"sampling: unknown kind {sampling!r}; allowed: {', '.join(get_args(Sampling))}")
