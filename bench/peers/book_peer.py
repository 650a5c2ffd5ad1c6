"""What a peer's order book must do to be measured beside ours, and which peers are installed.

A peer is other people's code. What is written here only stands where that code expects a caller: it hands on
a message, asks for the best levels, and reads the whole book out for the comparison after a run.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, TypeAlias

JsonMessage: TypeAlias = dict[str, Any]
"""A frame of Bybit's v5 order-book topics as a JSON library decodes it: levels are lists of two strings."""

PrintedSide: TypeAlias = list[tuple[float, float]]
"""A side's levels as (price, size), best first, each number the float64 nearest to its text."""

DISTRIBUTIONS: Final = {"pybit": "pybit", "c-order-book": "order-book", "sorteddict": "sortedcontainers"}
"""The package each peer comes from, by the peer's name."""

_MODULES: Final = {"pybit": "pybit", "c-order-book": "order_book", "sorteddict": "sortedcontainers"}
_CLASSES: Final = {
    "pybit": "bench.peers.pybit_book:PybitBook",
    "c-order-book": "bench.peers.c_order_book:COrderBook",
    "sorteddict": "bench.peers.sorteddict_book:SortedDictBook",
}


class BookPeer(ABC):
    """One peer's book of one topic, kept from Bybit's messages.

    `apply` and `on_frame` are attributes, so that a peer's own function can stand there and be timed with
    nothing around it. Each message is handed over once and belongs to the peer from then on.
    """

    name: str
    """The subject's name in results."""
    precision: str
    """How the peer holds prices and sizes."""
    apply_method: str
    """One line: what `apply` does."""
    frame_method: str
    """One line: what `on_frame` does."""
    best_method: str = ""
    """One line: how the best levels are read; empty where the peer has no way to read them."""

    apply: Callable[[JsonMessage], object]
    """Take a decoded message into the book."""
    on_frame: Callable[[str], object]
    """Take a frame's text into the book, decoding it as well."""

    def best(self) -> object:
        """Read the best bid and the best ask; only where `best_method` says how."""
        raise NotImplementedError(f"{self.name} has no way to read its best levels")

    @abstractmethod
    def levels(self) -> tuple[PrintedSide, PrintedSide]:
        """(bids, asks): the whole book."""


def installed_peers(names: Iterable[str] = DISTRIBUTIONS) -> tuple[list[str], list[str]]:
    """(installed, absent): which of the peers called `names` can be imported."""
    installed: list[str] = []
    absent: list[str] = []
    for name in names:
        (absent if find_spec(_MODULES[name]) is None else installed).append(name)
    return installed, absent


def make_peer(name: str, topic: str) -> BookPeer:
    """The peer called `name` with an empty book of `topic`; raises ModuleNotFoundError where it is absent."""
    module, _, class_name = _CLASSES[name].partition(":")
    peer: BookPeer = getattr(import_module(module), class_name)(topic)
    return peer
