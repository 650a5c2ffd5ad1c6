"""Writing simulated markets to a file, as if a recorder had listened to them."""

import heapq
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from lob.captures import RecordingWriter
from lob.errors import InputError
from lob.market import MarketConfiguration, shared_markets


def write_simulated_capture(
    path: Path,
    configurations: Sequence[MarketConfiguration],
    *,
    messages: int,
    created_ns: int,
    trades: bool = False,
) -> int:
    """Record the first `messages` messages of the markets, with their trades or not, in the order of time.

    Answers the file's size in bytes. Raises InputError where `path` exists or there are no messages to write.
    """
    if messages < 1:
        raise InputError(f"messages: {messages} came; allowed: 1 and above")
    hints = {configuration.symbol: configuration.hint for configuration in configurations}
    frames = heapq.merge(
        *(market.frames() for market in shared_markets(configurations, trades=trades)),
        key=lambda captured: captured.receive_ns,
    )
    with RecordingWriter(
        path,
        venue="bybit",
        instruments=list(hints.values()),
        created_ns=created_ns,
        source=configurations[0].source,
    ) as recording:
        for receive_ns, frame in islice(frames, messages):
            recording.write(receive_ns, frame)
    return path.stat().st_size
