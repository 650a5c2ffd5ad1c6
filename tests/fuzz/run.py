"""Fuzz the way from frames to books: mutations of real frames against a plain book.

    python -m tests.fuzz.run --frames 10000000 --seed 1 --stream bybit

One process, the same frames for the same seed. Before each real frame come mutations of it; when the book is
lost a snapshot from somewhere in the stream follows. After every frame: no exception; what the path says of
the frame must be something the plain book agrees with; a book which calls itself usable is the plain book,
level by level. A frame that hangs ends the process with a traceback.
"""

import argparse
import base64
import faulthandler
import importlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from lob.instrument import Instrument
from lob.rows import RowPath
from lob.venues import make_decoder
from tests.fuzz.frame_streams import CAPTURES, LONGEST, FrameStream, load_stream
from tests.fuzz.mutations import mutate
from tests.fuzz.plain_book import APPLIED, PlainBook, WrongError

HANG_S = 60.0
ARM_EVERY = 20_000
MUTATIONS_A_FRAME = 4
COMPARE_EVERY = 16
MAXIMUM_FINDINGS = 20

PathFactory = Callable[[str, Instrument], Any]


def row_path(venue: str, instrument: Instrument) -> RowPath:
    """The path that ships."""
    return RowPath(make_decoder(venue), instrument, window_length=10)


@dataclass
class Report:
    """Counts, and what was wrong."""

    stream: str
    seed: int
    path: str = "lob.rows:RowPath"
    mutated: int = 0
    plain: int = 0
    resets: int = 0
    compared: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    findings: list[dict[str, str]] = field(default_factory=list)
    seconds: float = 0.0


class Fuzzer:
    """One path under test and the plain book beside it."""

    def __init__(self, stream: FrameStream, make_path: PathFactory, seed: int, report: Report) -> None:
        self._stream = stream
        self._make_path = make_path
        self._random = Random(seed)
        self._report = report
        self._start()

    def _start(self) -> None:
        stream = self._stream
        self._path = self._make_path(
            stream.venue, Instrument(symbol=stream.symbol, tick_size=stream.tick_size)
        )
        self._plain = self._plain_book()
        self._recent: list[bytes] = []
        self._feed(stream.snapshots[0])

    def run(self, frames: int) -> None:
        """Feed `frames` mutated frames, or end early with too many findings."""
        random, stream, report = self._random, self._stream, self._report
        index = 0
        armed = 0
        places = sorted(stream.snapshots)
        while report.mutated < frames and len(report.findings) < MAXIMUM_FINDINGS:
            if report.mutated >= armed:
                armed = report.mutated + ARM_EVERY
                faulthandler.dump_traceback_later(HANG_S, exit=True)
            if index >= len(stream.frames) or (not self._path.book.usable and random.random() < 0.7):
                index = places[int(random.random() * len(places))]
                snapshot = stream.snapshots[index]
                if random.random() < 0.05:
                    self._feed_mutated(snapshot)
                apart = stream.whole or stream.venue == "binance"
                if apart or random.random() < 0.01:
                    self._path.reset()  # as on a new connection: the snapshot may be older than the book
                    self._plain = self._plain_book()
                    report.resets += 1
                if stream.whole and random.random() < 0.5:
                    # The snapshot comes when some changes are kept for it, of which it joins the first.
                    for frame in stream.frames[index : index + random.randint(1, 4)]:
                        self._feed(frame)
                        index += 1
                    if random.random() < 0.5:
                        self._feed_mutated(snapshot)
                self._feed(snapshot)
                if index >= len(stream.frames):
                    continue
            frame = stream.frames[index]
            if len(frame) <= LONGEST:
                for _ in range(MUTATIONS_A_FRAME):
                    if self._feed_mutated(frame) in APPLIED:
                        break  # further frames of this number are old
            self._feed(frame)
            index += 1
        faulthandler.cancel_dump_traceback_later()

    def _plain_book(self) -> PlainBook:
        stream = self._stream
        return PlainBook(stream.venue, stream.symbol, stream.tick_size, whole=stream.whole)

    def _feed_mutated(self, frame: bytes) -> str:
        self._report.mutated += 1
        return self._feed(mutate(frame, self._random, self._stream.donors))

    def _feed(self, frame: bytes) -> str:
        """Feed a frame and check; what the path said of it, empty where it was wrong."""
        report, path, plain = self._report, self._path, self._plain
        try:
            status = str(path.on_frame(frame, 1_700_000_000_000_000_000).name)
            report.statuses[status] += 1
            plain.on_frame(frame, status)
            if status in APPLIED or report.statuses[status] % COMPARE_EVERY == 0 or status == "SNAPSHOT":
                report.compared += 1
                book = path.book
                bids, asks = book.bids(), book.asks()
                plain.compare(
                    book.usable,
                    book.update_id,
                    dict(zip(bids[0].tolist(), bids[1].tolist(), strict=True)),
                    dict(zip(asks[0].tolist(), asks[1].tolist(), strict=True)),
                )
            elif path.book.usable != plain.usable:
                raise WrongError(f"{status}: usable {path.book.usable}, should be {plain.usable}")
        except Exception as error:  # any at all is a finding
            report.findings.append(
                {
                    "error": f"{type(error).__name__}: {error}"[:1_000],
                    "frame": base64.b64encode(frame[:5_000]).decode(),
                }
            )
            status = ""
            if len(report.findings) < MAXIMUM_FINDINGS:
                self._start()
        report.plain = report.statuses.total() - report.mutated
        return status


def fuzz(stream: FrameStream, name: str, make_path: PathFactory, frames: int, seed: int) -> Report:
    """Feed `frames` mutated frames of a stream to a path; the report."""
    report = Report(stream=name, seed=seed)
    began_s = time.monotonic()
    Fuzzer(stream, make_path, seed, report).run(frames)
    report.seconds = round(time.monotonic() - began_s, 1)
    return report


def main() -> None:
    """The command; exit code 1 where anything was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--frames", type=int, default=1_000_000, help="mutated frames, of all streams together"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stream", action="append", choices=list(CAPTURES), help="by default all")
    parser.add_argument(
        "--path",
        default="tests.fuzz.run:row_path",
        help="module:function that makes a path of (venue, instrument)",
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("MAMBALOB_DATA", "../shared/data"))
    arguments = parser.parse_args()
    module, _, function = arguments.path.partition(":")
    make_path: PathFactory = getattr(importlib.import_module(module), function)
    names = arguments.stream or list(CAPTURES)
    wrong = False
    for name in names:
        stream = load_stream(name, Path(arguments.data))
        report = fuzz(stream, name, make_path, arguments.frames // len(names), arguments.seed)
        report.path = arguments.path
        print(json.dumps(vars(report), indent=2), flush=True)
        wrong = wrong or bool(report.findings)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
