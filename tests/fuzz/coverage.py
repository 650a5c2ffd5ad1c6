"""Coverage-guided fuzzing from frames to books, with atheris (extra `fuzz`) and the kernels as plain Python.

    NUMBA_DISABLE_JIT=1 python -m tests.fuzz.coverage CORPUS_DIR -max_total_time=120 -seed=1

The fuzzer chooses bytes: the first picks the venue, the rest is what comes after a snapshot and a change, as
frames with NUL bytes between them. The same check as in `tests.fuzz.run`. CORPUS_DIR, made if it is not
there, starts with real frames.
"""

import os
import sys
from pathlib import Path

os.environ["NUMBA_DISABLE_JIT"] = "1"

import atheris

with atheris.instrument_imports(include=["lob"]):
    from lob.instrument import Instrument
    from lob.rows import RowPath
    from lob.venues import make_decoder

from tests.fuzz.frame_streams import FrameStream, load_stream
from tests.fuzz.plain_book import PlainBook

STREAMS = ("bybit", "binance-coinm", "binance-spot", "bybit-full")
CAPACITY = 256  # a small book is made quickly, and its end is found
SEEDS = 60


def check(stream: FrameStream, frames: list[bytes]) -> None:
    """Feed frames to a fresh path after the stream's first snapshot; raises where the path is wrong."""
    instrument = Instrument(symbol=stream.symbol, tick_size=stream.tick_size)
    path = RowPath(make_decoder(stream.venue), instrument, window_length=2, capacity=CAPACITY)
    plain = PlainBook(stream.venue, stream.symbol, stream.tick_size, whole=stream.whole)
    for frame in (stream.snapshots[0], *frames):
        plain.on_frame(frame, path.on_frame(frame, 1).name)
        bids, asks = path.book.bids(), path.book.asks()
        plain.compare(
            path.book.usable,
            path.book.update_id,
            dict(zip(bids[0].tolist(), bids[1].tolist(), strict=True)),
            dict(zip(asks[0].tolist(), asks[1].tolist(), strict=True)),
        )


def main() -> None:
    """The command; libFuzzer's options follow the corpus."""
    data = Path(os.environ.get("MAMBALOB_DATA", "../shared/data"))
    streams = [load_stream(name, data, levels=3) for name in STREAMS]
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    for number, stream in enumerate(streams):
        short = [frame for frame in stream.frames if len(frame) < 600]
        for index in range(min(SEEDS, len(short) - 1)):
            seed = bytes([number]) + short[index] + b"\0" + short[index + 1]
            (corpus / f"{stream.venue}-{number}-{index}").write_bytes(seed)

    def one_input(data: bytes) -> None:
        if data:
            check(streams[data[0] % len(streams)], data[1:].split(b"\0")[:4])

    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
