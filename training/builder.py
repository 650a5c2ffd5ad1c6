"""Captures to a data set, through the same row path that serves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from inference.capture_instrument import capture_instrument
from inference.manifest import TrainingFile
from lob.captures import open_capture, open_captures
from lob.errors import CaptureError, InputError
from lob.rows import RowPath, RowStatus
from lob.schema import LOB44, Schema, check_sampling
from lob.venues import make_decoder
from training.dataset import Dataset, DatasetManifest, file_sha256, schema_reference


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """How captures become rows; what is None is taken from the captures themselves."""

    name: str
    venue: str | None = None
    symbol: str | None = None
    tick_size: str | None = None
    sampling: str = "top_changed"
    schema: Schema = field(default=LOB44)


def build_dataset(
    captures: Sequence[Path], config: BuildConfig, *, on_file: Callable[[Path, int], None] | None = None
) -> Dataset:
    """The rows of the captures, which continue each other in the order given, as one stream.

    `on_file(path, rows)` is told of each capture when it is done. Raises CaptureError for a truncated or
    corrupt capture, InputError where symbol or tick size cannot be told or no row came out.
    """
    check_sampling(config.sampling)
    together = open_captures(captures)
    venue = together.venue
    if config.venue not in {None, venue}:
        raise InputError(f"venue: {config.venue} came, the captures are of {venue}")
    instrument = capture_instrument(together, symbol=config.symbol, tick_size=config.tick_size).instrument
    path = RowPath(make_decoder(venue), instrument, config.schema, config.sampling, window_length=1)
    rows: list[np.ndarray] = []
    mid_half_ticks: list[int] = []
    exchange_ms: list[int] = []
    receive_ns: list[int] = []
    segments: list[int] = []
    segment = -1
    files: list[TrainingFile] = []
    for capture_path in captures:
        rows_before = len(rows)
        first_ns: int | None = None
        frame_ns = 0
        capture = open_capture(capture_path)
        for frame_ns, frame in capture:
            first_ns = frame_ns if first_ns is None else first_ns
            status = path.on_frame(frame, frame_ns)
            if status is RowStatus.SNAPSHOT:
                segment += 1
            elif status is not RowStatus.ROW:
                continue
            rows.append(path.window.latest().copy())
            mid_half_ticks.append(int(path.book.bids(1)[0][0]) + int(path.book.asks(1)[0][0]))
            exchange_ms.append(path.exchange_ms)
            receive_ns.append(frame_ns)
            segments.append(segment)
        if capture.interrupted:
            raise CaptureError(f"{capture_path}: its writer did not finish it; a whole capture is needed")
        files.append(
            TrainingFile(
                name=capture_path.name,
                sha256=file_sha256(capture_path),
                first_ns=first_ns or 0,
                last_ns=frame_ns,
                rows=len(rows) - rows_before,
            )
        )
        if on_file is not None:
            on_file(capture_path, len(rows) - rows_before)
    if not rows:
        raise InputError(
            f"{', '.join(str(each) for each in captures)}: no row of {instrument.symbol} came out of "
            f"{sum(path.counters.values())} frames ({counted(path.counters)})"
        )
    manifest = DatasetManifest(
        name=config.name,
        venue=venue,
        symbol=instrument.symbol,
        tick_size=instrument.tick_size,
        schema=schema_reference(config.schema),
        sampling=check_sampling(config.sampling),
        rows=len(rows),
        segments=segment + 1,
        files=tuple(files),
        frames=path.counters,
    )
    return Dataset(
        manifest=manifest,
        rows=np.stack(rows),
        mid_half_ticks=np.array(mid_half_ticks, dtype=np.int64),
        exchange_ms=np.array(exchange_ms, dtype=np.int64),
        receive_ns=np.array(receive_ns, dtype=np.int64),
        segments=np.array(segments, dtype=np.int32),
    )


def counted(counters: dict[str, int]) -> str:
    """`3 gap, 2 waiting`: the counters that are not 0."""
    return ", ".join(f"{count} {name}" for name, count in counters.items() if count) or "none"
