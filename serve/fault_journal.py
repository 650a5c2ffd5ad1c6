"""What an exchange can be held against: the faults it injected, and its own book at each update."""

import time
from collections import Counter, deque
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from lob.errors import InputError
from serve.fault_injection import Injection
from serve.playback import Timeline

FLUSH_EVERY = 200
"""Lines of the log of books that may wait; faults are few, and written at once."""


class JsonLines:
    """A file of JSON lines that is written as things happen; None for no file.

    Raises InputError where it cannot be created or exists.
    """

    def __init__(self, path: Path | None, *, flush_every: int = 1) -> None:
        self._flush_every = flush_every
        self._waiting = 0
        self._path = path
        self._file: BinaryIO | None = None
        if path is not None:
            try:
                self._file = path.open("xb")
            except OSError as error:
                raise InputError(f"{path}: cannot be created ({error.strerror})") from error

    @property
    def is_open(self) -> bool:
        """Whether lines go anywhere."""
        return self._file is not None

    def write(self, line: dict[str, Any]) -> None:
        """Append one line."""
        if self._file is None:
            return
        self._file.write(msgspec.json.encode(line) + b"\n")
        self._waiting += 1
        if self._waiting >= self._flush_every:
            self._file.flush()
            self._waiting = 0

    def close(self) -> None:
        """Write what waits; further lines go nowhere."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def discard(self) -> None:
        """Take the file away again: nothing happened that it could tell of."""
        if self._file is not None and self._path is not None:
            self.close()
            self._path.unlink(missing_ok=True)


class FaultJournal:
    """Counts the faults that were injected, and writes one JSON line for each where a path is given.

    `{"time_ns":...,"market_ns":...,"topic":"orderbook.50.BTCUSDT","kind":"drop","u":1000042,"heard":true}`;
    `time_ns` is Unix time.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.counts: Counter[str] = Counter()
        """By kind."""
        self._lines = JsonLines(path)

    def record(self, injection: Injection) -> None:
        """A fault was injected."""
        self.counts[injection.kind] += 1
        self._lines.write(
            {
                "time_ns": time.time_ns(),
                "market_ns": injection.market_ns,
                "topic": injection.topic,
                "kind": injection.kind,
                "u": injection.update_id,
                "heard": injection.heard,
            }
        )

    def close(self) -> None:
        """Close the file."""
        self._lines.close()

    def discard(self) -> None:
        """Take the file away again, before anything happened."""
        self._lines.discard()


class BookJournal:
    """Remembers the digest of the exchange's own book at each of the last `kept` updates of every topic.

    With a path it writes one JSON line an update of the topics that somebody subscribes to:
    `{"topic":"orderbook.50.BTCUSDT","u":1000042,"seq":...,"digest":"9f...","bids":50,"asks":50}`; the digest
    is `lob.book_digest`'s, as 16 hexadecimal digits.
    """

    def __init__(self, *, kept: int = 0, path: Path | None = None) -> None:
        if kept < 0:
            raise InputError(f"kept_books: {kept} came; allowed: 0 and above")
        self._kept = kept
        self._lines = JsonLines(path, flush_every=FLUSH_EVERY)
        self._order: dict[str, deque[int]] = {}
        self._digests: dict[tuple[str, int], list[int]] = {}

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to do at an update."""
        return self._kept > 0 or self._lines.is_open

    def digests(self, topic: str, update_id: int) -> tuple[int, ...]:
        """The digests of the book at `u`, oldest first: several after a restart, none if forgotten."""
        return tuple(self._digests.get((topic, update_id), ()))

    def record(self, timeline: Timeline) -> None:
        """The exchange's book of a topic has followed a frame."""
        book = timeline.book
        if not book.is_known:
            return
        topic, update_id, digest = timeline.topic, book.update_id, book.digest
        if self._kept:
            order = self._order.setdefault(topic, deque())
            if len(order) >= self._kept:
                self._forget(topic, order.popleft())
            order.append(update_id)
            self._digests.setdefault((topic, update_id), []).append(digest)
        if self._lines.is_open and timeline.is_heard:
            bids, asks = book.sizes
            self._lines.write(
                {
                    "topic": topic,
                    "u": update_id,
                    "seq": book.sequence,
                    "digest": f"{digest:016x}",
                    "bids": bids,
                    "asks": asks,
                }
            )

    def close(self) -> None:
        """Close the file."""
        self._lines.close()

    def discard(self) -> None:
        """Take the file away again, before anything happened."""
        self._lines.discard()

    def _forget(self, topic: str, update_id: int) -> None:
        remembered = self._digests[topic, update_id]
        remembered.pop(0)
        if not remembered:
            del self._digests[topic, update_id]
