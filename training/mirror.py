"""The reflection of a book: bids become asks, up becomes down.

A limit order book has no preferred side, yet twenty minutes of one do: the training part of a
falling market teaches a model to expect falls. Reflecting half of what it sees takes that away.
"""

import numpy as np
from numpy.typing import NDArray

from lob.schema import Schema

SIGNED = ("microprice", "imbalance_1", "ofi")


def reflected_name(name: str) -> str:
    """The column that `name` becomes in the reflected book."""
    if name.startswith("bid_"):
        return "ask_" + name.removeprefix("bid_")
    if name.startswith("ask_"):
        return "bid_" + name.removeprefix("ask_")
    return name


def reflection(schema: Schema) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Columns (F,) and signs (F,) such that `rows[:, columns] * signs` are the rows of the reflected book."""
    names = schema.feature_names
    columns = np.array([names.index(reflected_name(name)) for name in names], dtype=np.intp)
    signs = np.array([-1.0 if name in SIGNED else 1.0 for name in names], dtype=np.float32)
    return columns, signs


def reflect_labels(labels: NDArray[np.int8]) -> NDArray[np.int8]:
    """Labels of the reflected book: 0 and 2 change places; 1 and -1 (no label) stay."""
    return np.where(labels < 0, labels, 2 - labels).astype(np.int8)
