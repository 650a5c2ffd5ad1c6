"""Trained models on data sets: the parts and thresholds of their training found again, and their answers."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from inference.artifact import Artifact
from inference.engines.selection import create_engine
from inference.manifest import TrainingFile
from lob.errors import InputError
from lob.window import RingWindow
from models.checkpoint import load_model
from training.dataset import Dataset
from training.evaluate import Forecast
from training.forecast import part_logits
from training.pool import LabelledStream, label_stream, pool_streams
from training.run_directory import RunRecord, StreamRecord, finished_seeds, read_seed
from training.scratch import scratch_array
from training.splits import Part, Split


def recorded_streams(record: RunRecord, datasets: Sequence[Dataset]) -> list[LabelledStream]:
    """The data sets with the parts and thresholds they had in training.

    One that training has not seen is split and labelled as if it had been pooled with the others given.
    Raises InputError where a data set bears the name of a stream of the run and holds other captures, or
    is of another schema or sampling.
    """
    for dataset in datasets:
        for field in ("schema", "sampling"):
            came, allowed = getattr(dataset.manifest, field), getattr(record, field)
            if came != allowed:
                raise InputError(
                    f"data: {dataset.name} has {field} {came}, the model was trained on {allowed}"
                )
    references = {stream.reference for stream in record.streams} & {dataset.name for dataset in datasets}
    pooled = pool_streams(datasets, horizons=record.horizons, references=sorted(references))
    return [
        fresh if (known := record.stream(fresh.name)) is None else recorded_stream(known, fresh)
        for fresh in pooled
    ]


def recorded_stream(known: StreamRecord, fresh: LabelledStream) -> LabelledStream:
    """`fresh` with the parts and thresholds of `known`."""
    came, allowed = capture_spans(fresh.dataset.manifest.files), capture_spans(known.files)
    if came != allowed:
        raise InputError(
            f"data: {known.name} holds {fresh.dataset.manifest.rows} rows of other captures than the "
            f"{known.rows} rows that the model was trained on under this name; build it under another name"
        )
    split = Split(
        training=Part(start=known.training[0], stop=known.training[1]),
        validation=Part(start=known.validation[0], stop=known.validation[1]),
        test=Part(start=known.test[0], stop=known.test[1]),
        validation_from_ms=known.validation_from_ms,
        test_from_ms=known.test_from_ms,
        reference=known.reference,
    )
    return label_stream(fresh.dataset, split, fresh.horizons, thresholds=known.thresholds)


def capture_spans(files: Sequence[TrainingFile]) -> list[tuple[int, int, int]]:
    """What tells captures apart whose files may have been written anew: their spans and their rows."""
    return [(file.first_ns, file.last_ns, file.rows) for file in files]


def stream_record(stream: LabelledStream) -> StreamRecord:
    """What `recorded_stream` needs to find the stream's parts and thresholds again."""
    manifest, split = stream.dataset.manifest, stream.split
    return StreamRecord(
        name=stream.name,
        venue=manifest.venue,
        symbol=manifest.symbol,
        tick_size=manifest.tick_size,
        files=manifest.files,
        rows=manifest.rows,
        training=(split.training.start, split.training.stop),
        validation=(split.validation.start, split.validation.stop),
        test=(split.test.start, split.test.stop),
        validation_from_ms=split.validation_from_ms,
        test_from_ms=split.test_from_ms,
        reference=split.reference,
        thresholds=stream.thresholds,
        training_shares=tuple(tuple(shares) for shares in stream.shares("training").tolist()),
    )


def run_forecasts(run: Path, streams: Sequence[LabelledStream], part: str) -> dict[str, list[Forecast]]:
    """For each stream the answers of every finished seed of a run, in PyTorch."""
    forecasts: dict[str, list[Forecast]] = {stream.name: [] for stream in streams}
    for directory in finished_seeds(run):
        model, result = load_model(directory), read_seed(directory)
        for stream in streams:
            forecasts[stream.name].append(
                Forecast(
                    method=f"mambalob, seed {result.seed}",
                    seed=result.seed,
                    logits=part_logits(model, stream, part),
                    temperatures=result.temperatures,
                )
            )
    return forecasts


def artifact_record(artifact: Artifact) -> RunRecord:
    """The training run an artifact came from, out of its manifest; InputError where it names none."""
    try:
        return msgspec.convert(artifact.manifest.training.details.get("run"), RunRecord)
    except msgspec.ValidationError as error:
        raise InputError(
            f"{artifact.directory}: training.details.run: not a training run: {error}"
        ) from error


def artifact_forecasts(
    artifact: Artifact, streams: Sequence[LabelledStream], part: str
) -> dict[str, list[Forecast]]:
    """For each stream the answers of an artifact, from the engine that serves it."""
    manifest = artifact.manifest
    return {
        stream.name: [
            Forecast(
                method=f"{artifact.name} (seed {manifest.training.seed})",
                seed=manifest.training.seed,
                logits=engine_logits(artifact, stream, part),
                temperatures=manifest.temperatures,
            )
        ]
        for stream in streams
    }


def engine_logits(
    artifact: Artifact,
    stream: LabelledStream,
    part: str,
    *,
    engine: str = "auto",
    precision: str = "float32",
) -> NDArray[np.float32]:
    """(N, H, C) logits of an engine, by default the serving one, for each row of a part.

    0 where it does not answer yet.
    """
    manifest = artifact.manifest
    rows = stream.split.part(part)
    shape = (len(rows), len(manifest.horizons), len(manifest.classes))
    logits = scratch_array(shape, np.float32)
    ring = RingWindow(manifest.window_length, artifact.schema.feature_count)
    made = create_engine(engine, artifact, ring, precision=precision)
    for first, past in stream.segments(part):
        ring.reset()
        made.reset()
        for number in range(first, past):
            ring.append(stream.dataset.rows[number])
            answer = made.push(ring.latest())
            if answer is not None:
                logits[number - rows.start] = answer
    return logits
