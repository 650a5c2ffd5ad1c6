"""The one interface all engines share: a feature row goes in, logits come out."""

from collections.abc import Mapping
from typing import Protocol, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from lob.window import RingWindow

Row: TypeAlias = npt.NDArray[np.float32]
Logits: TypeAlias = npt.NDArray[np.float32]
Description: TypeAlias = Mapping[str, str | int]


class Engine(Protocol):
    """A model that answers row by row, for one symbol.

    An engine is made for one `RingWindow`; whoever owns the ring writes a row, then pushes it, and resets
    both together. Engines know nothing about calibration, states of a symbol, or time.
    """

    name: str

    def push(self, row: Row) -> Logits | None:
        """Take `row` (F,), `ring.latest()` as just written; answer logits (H, C), or None while warming.

        The answer is a view of the engine's own memory: the next push overwrites it. It may hold values that
        are not finite where the model computed such; the caller checks.
        """
        ...

    @property
    def logits(self) -> Logits:
        """(H, C) of the newest row that was answered; a view, overwritten by the next."""
        ...

    def reset(self) -> None:
        """Forget all rows: the next push is the first of a new stream, state zero."""
        ...

    def another(self, ring: RingWindow) -> Self:
        """An engine of the same model for another symbol, whose ring is `ring`, before its first row.

        All that does not change from row to row is shared with this one: weights, session, compiled code and
        what was found when it was checked. State and answers are its own.
        """
        ...

    def describe(self) -> Description:
        """Model, engine, graph, precision, context, node count and versions, for people and for records."""
        ...
