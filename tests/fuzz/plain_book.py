"""The independent check: a book in dictionaries behind Python's own JSON parser and whole-number arithmetic.

It shares no code with `lob`. It is told what the path under test said of a frame, and answers what is wrong
with that: a message taken that should not have been, a message refused that leaves a usable book changed, a
book that is not the dictionaries'.
"""

import json
import re
from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

APPLIED = frozenset({"ROW", "SNAPSHOT", "NO_ROW", "ONE_SIDED"})
SPOILT = frozenset({"GAP", "CROSSED", "MALFORMED", "OVERFLOW"})
PRINTED = re.compile(r"[0-9]+(\.[0-9]+)?")
LARGEST_COUNT = 2**62
MOST_CHARACTERS = 49  # 48 digits and a point; larger numbers are refused, however well they are printed
LARGEST_PRICE = 2**53  # in units of the tick's last decimal
LARGEST_SIZE = 1e18
PENDING = 2_000

Side = dict[int, float]


class WrongError(AssertionError):
    """The path under test is wrong."""


@dataclass(frozen=True)
class Update:
    """One message; levels as they were parsed, not yet judged. `sequence` is told of whole books alone."""

    symbol: str
    depth: int
    is_snapshot: bool
    first: int
    last: int
    previous: int
    bids: Any
    asks: Any
    sequence: int = 0


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= LARGEST_COUNT:
        raise WrongError(f"{value!r} taken as a count")
    return value


def read_bybit(document: Any) -> Update:
    """Bybit's order-book message; raises where it is none."""
    data = document["data"]
    prefix, depth, symbol = document["topic"].split(".")
    if prefix != "orderbook" or symbol != data["s"] or document["type"] not in ("snapshot", "delta"):
        raise WrongError(f"topic {document['topic']!r}, type {document['type']!r} taken")
    for name in ("ts", "cts"):
        _count(document.get(name, 0))
    number = _count(data["u"])
    _count(data.get("seq", 0))
    snapshot = document["type"] == "snapshot" or number == 1
    return Update(symbol, int(depth), snapshot, number, number, -1, data["b"], data["a"])


def read_whole(document: Any) -> Update:
    """A message of Bybit's whole book, or the REST answer; raises where it is neither."""
    in_stream = "topic" in document
    data = document["data"] if in_stream else document["result"]
    if in_stream:
        read_bybit({**document, "topic": document["topic"].replace("orderbook.full.", "orderbook.0.", 1)})
        if not document["topic"].startswith("orderbook.full."):
            raise WrongError(f"topic {document['topic']!r} taken")
    elif document["retCode"] != 0 or type(document["retCode"]) is not int:
        raise WrongError(f"an answer with the code {document['retCode']!r} taken")
    number, sequence = _count(data["u"]), _count(data.get("seq", 0))
    snapshot = not in_stream or document["type"] == "snapshot"
    if sequence == 0 and not (in_stream and snapshot):
        raise WrongError("taken without a sequence")
    depth = -1 if in_stream and snapshot else 0
    return Update(data["s"], depth, snapshot, number, number, -1, data["b"], data["a"], sequence)


def read_binance(document: Any) -> Update:
    """Binance's depth update in a combined stream, or the REST snapshot; raises where it is neither."""
    data = document.get("data")
    if "lastUpdateId" in document and not (type(data) is dict and "U" in data):
        number = _count(document["lastUpdateId"])
        symbol = document.get("symbol", "")
        return Update(symbol, 0, True, number, number, -1, document["bids"], document["asks"])
    if "pu" in data:
        _count(data["pu"])
    _count(data["E"])
    return Update(
        data["s"], 0, False, _count(data["U"]), _count(data["u"]), data.get("pu", -1), data["b"], data["a"]
    )


class WholeJoin:
    """What a whole book's subscriber keeps for the snapshot: runs of changes, as lists made anew."""

    KEPT = 500

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin from nothing."""
        self._run: list[Update] = []
        self._fetched: Update | None = None

    def add(self, update: Update) -> list[Update] | None:
        """Snapshot and changes that join now; None where none do."""
        run = self._run
        if update.is_snapshot:
            self._fetched = update
        elif update.last == 1:
            if run and (run[0].last, run[0].sequence) == (1, update.sequence):
                return None
            self._run, self._fetched = [update], None
        elif run and update.last <= run[-1].last + (update.sequence < run[-1].sequence):
            if update.sequence <= run[-1].sequence:
                return None
            self._run = [update]
        elif run and update.last == run[-1].last + 1:
            self._run = [*run, update][-self.KEPT :]
        else:
            self._run = [update]
        fetched, run = self._fetched, self._run
        if fetched is None or not run:
            return None
        for place, one in enumerate(run):
            if (one.last, one.sequence) == (fetched.last, fetched.sequence):
                return [fetched, *run[place + 1 :]]
        if not (fetched.last > run[-1].last and fetched.sequence > run[-1].sequence):
            self._fetched = None
        return None


class PlainBook:
    """The book as a careful and slow subscriber keeps it."""

    def __init__(self, venue: str, symbol: str, tick_size: str, *, whole: bool = False) -> None:
        self.bids: Side = {}
        self.asks: Side = {}
        self.update_id = 0
        self.usable = False
        self._joined = False
        self._symbol = symbol
        self._apart = venue == "binance"
        self._read = read_whole if whole else read_binance if self._apart else read_bybit
        self._join_whole = WholeJoin() if whole else None
        self._sequence = 0
        tick = Decimal(tick_size)
        self._decimals = max(0, -int(tick.as_tuple().exponent))
        self._mantissa = int(tick.scaleb(self._decimals))
        self._ticks: dict[str, int] = {}
        self._pending: deque[Update] = deque(maxlen=PENDING)

    def on_frame(self, frame: bytes, status: str) -> None:
        """Follow what the path said of a frame; raises WrongError where it should not have said so."""
        if self._join_whole is not None:
            self._on_whole(frame, status, self._join_whole)
        elif status in APPLIED:
            update = self._parse(frame)
            if update.is_snapshot:
                self._start(update)
                if self._apart:
                    self._join()
            else:
                self._change(update)
            if not self.usable:
                raise WrongError(f"{status}, but the book is not sound")
            if (status == "ONE_SIDED") == bool(self.bids and self.asks):
                raise WrongError(f"{status} with {len(self.bids)} bids and {len(self.asks)} asks")
        elif status in SPOILT:
            self.usable = False
            if self._apart:
                self._keep(frame, status)
        elif status == "WAITING" and self._apart:
            self._keep(frame, status)

    def _on_whole(self, frame: bytes, status: str, join: "WholeJoin") -> None:
        """A frame of a stream whose snapshot is joined where both its numbers are a change's."""
        if status in {"NOT_JSON", "NOT_BOOK", "OTHER_STREAM"}:
            return
        update = self._parse(frame)
        if update.depth == -1:  # a snapshot in the stream
            self.usable = False
            if status in APPLIED:
                self._start(update)
                self._sequence = update.sequence
                join.forget()
            return
        if self.usable:
            if update.is_snapshot or status == "IGNORED":
                old = update.last <= self.update_id and update.sequence <= self._sequence
                if status != "IGNORED" or not (update.is_snapshot or old):
                    raise WrongError(f"{status} in a book in sequence at {self.update_id}")
                return
            if status in APPLIED:
                if update.last == 1 or update.sequence < self._sequence:
                    raise WrongError(
                        f"{update.last}, {update.sequence} after {self.update_id}, {self._sequence}"
                    )
                self._change(update)
                self._sequence = update.sequence
                return
            self.usable = False
            if status != "GAP":
                return
        joined = join.add(update)
        if (joined is not None) != (status in APPLIED or status in SPOILT - {"GAP"}):
            raise WrongError(f"{status}, but {'it joins' if joined else 'nothing joins'}")
        if joined is None:
            return
        join.forget()
        try:
            for place, one in enumerate(joined):
                (self._apply if place else self._start)(one)
                if not self.usable:
                    break
        except WrongError:
            self.usable = False
        self._sequence = joined[-1].sequence
        if self.usable != (status in APPLIED):
            raise WrongError(f"{status}, but the join is {'sound' if self.usable else 'spoilt'}")

    def compare(self, usable: bool, update_id: int, bids: Side, asks: Side) -> None:
        """Hold a book against this one."""
        if usable != self.usable:
            raise WrongError(f"usable {usable}, should be {self.usable}")
        if usable and (update_id, bids, asks) != (self.update_id, self.bids, self.asks):
            bids_apart = set(bids.items()) ^ set(self.bids.items())
            asks_apart = set(asks.items()) ^ set(self.asks.items())
            raise WrongError(
                f"at u {update_id}, should be {self.update_id}: bids {bids_apart}, asks {asks_apart} apart"
            )

    def _parse(self, frame: bytes) -> Update:
        text = frame.decode("utf-8", "replace").replace("\\u003", "\\u004")  # digits are not to be escaped
        try:
            update = self._read(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise WrongError(f"taken, but no message: {error!r}") from error
        if update.symbol != self._symbol and not (self._apart and update.symbol == ""):
            raise WrongError(f"taken of symbol {update.symbol!r}")
        return update

    def _keep(self, frame: bytes, status: str) -> None:
        """A change that may join a later snapshot; a snapshot whose join failed changes what is kept."""
        update = self._parse(frame)
        if not update.is_snapshot:
            if status in ("WAITING", "GAP"):
                self._pending.append(update)
            return
        # A snapshot that came to GAP, CROSSED, MALFORMED or OVERFLOW: by itself, or by what was joined to it.
        try:
            self._start(update)
        except WrongError:
            return
        if self.usable:
            self._join()
            if self.usable:
                raise WrongError(f"{status}, but snapshot and changes are sound")

    def _start(self, update: Update) -> None:
        bids, asks = self._levels(update.bids), self._levels(update.asks)
        self.bids, self.asks = {}, {}
        self.usable, self._joined = True, False
        self._set(bids, asks, update.last)

    def _join(self) -> None:
        for update in self._pending:
            verdict = self._verdict(update)
            if verdict == "gap":  # a newer snapshot can still join what is kept
                self.usable = False
                return
            if verdict == "old":
                continue
            try:
                self._apply(update)
            except WrongError:
                self.usable = False
            if not self.usable:
                break
        self._pending.clear()

    def _verdict(self, update: Update) -> str:
        last = self.update_id
        if update.previous < 0 or self._joined:
            if update.last <= last:
                return "old"
            follows = update.first <= last + 1 if update.previous < 0 else update.previous == last
        else:
            if update.last < last:
                return "old"
            follows = update.previous == last or update.first <= last
        return "next" if follows else "gap"

    def _change(self, update: Update) -> None:
        if not self.usable:
            raise WrongError("a change applied to a book that is lost")
        if self._verdict(update) != "next":
            raise WrongError(
                f"{update.first}..{update.last} (after {update.previous}) after {self.update_id}"
            )
        self._apply(update)

    def _apply(self, update: Update) -> None:
        self._set(self._levels(update.bids), self._levels(update.asks), update.last)
        self._joined = True

    def _set(self, bids: list[tuple[int, float]], asks: list[tuple[int, float]], update_id: int) -> None:
        for side, levels in ((self.bids, bids), (self.asks, asks)):
            for ticks, size in levels:
                if size == 0:
                    side.pop(ticks, None)
                else:
                    side[ticks] = size
        self.update_id = update_id
        if self.bids and self.asks and max(self.bids) >= min(self.asks):
            self.usable = False

    def _levels(self, levels: Any) -> list[tuple[int, float]]:
        if type(levels) is not list:
            raise WrongError(f"levels {levels!r} taken")
        read = []
        for level in levels:
            if type(level) is not list or len(level) != 2:
                raise WrongError(f"level {level!r} taken")
            price, size = level
            if type(size) is not str or PRINTED.fullmatch(size) is None or len(size) > MOST_CHARACTERS:
                raise WrongError(f"size {size!r} taken")
            number = float(size)
            if number > LARGEST_SIZE:
                raise WrongError(f"size {size!r} taken")
            read.append((self._price(price), number))
        return read

    def _price(self, price: Any) -> int:
        known = self._ticks.get(price) if type(price) is str else None
        if known is not None:
            return known
        if type(price) is not str or PRINTED.fullmatch(price) is None or len(price) > MOST_CHARACTERS:
            raise WrongError(f"price {price!r} taken")
        whole, _, fraction = price.partition(".")
        fraction = fraction.rstrip("0")
        if len(fraction) > self._decimals:
            raise WrongError(f"price {price!r} taken")
        scaled = int(whole + fraction.ljust(self._decimals, "0"))
        ticks, rest = divmod(scaled, self._mantissa)
        if rest or ticks == 0 or scaled >= LARGEST_PRICE:
            raise WrongError(f"price {price!r} taken")
        if len(self._ticks) < 200_000:
            self._ticks[price] = ticks
        return ticks
