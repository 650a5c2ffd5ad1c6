"""What an evaluation finds, as records: tables, plots, JSON and cards are all made from these."""

import msgspec

from training.bootstrap import BLOCK_ROWS, RESAMPLES
from training.run_directory import Record
from training.scores import Scores


class Comparison(Record, frozen=True, kw_only=True):
    """The model (mean over seeds) against a baseline, with a 95 % moving-block bootstrap interval."""

    score: str
    against: str
    difference: float | None
    low: float | None
    high: float | None


class HorizonEvaluation(Record, frozen=True, kw_only=True):
    """Everything scored at one horizon of one stream."""

    horizon: int
    threshold: float
    rows: int
    shares: tuple[float, ...]  # (C,) of the rows scored
    training_shares: tuple[float, ...]  # (C,)
    methods: tuple[Scores, ...]
    comparisons: tuple[Comparison, ...]


class StreamEvaluation(Record, frozen=True, kw_only=True):
    """One stream's held-out part."""

    stream: str
    first_ms: int
    last_ms: int
    horizons: tuple[HorizonEvaluation, ...]


class Evaluation(Record, frozen=True, kw_only=True):
    """What `mambalob evaluate` found, and how it looked."""

    model: str
    part: str
    context: str
    warmup_rows: int
    seeds: tuple[int, ...]
    logistic_fitted_on: tuple[str, ...]
    ece_bins: int
    bootstrap_block_rows: int = BLOCK_ROWS
    bootstrap_resamples: int = RESAMPLES
    streams: tuple[StreamEvaluation, ...]


def without_reliability(evaluation: Evaluation) -> Evaluation:
    """The same without the bins of the reliability diagrams, which take up most of it."""
    return msgspec.structs.replace(
        evaluation,
        streams=tuple(
            msgspec.structs.replace(
                stream,
                horizons=tuple(
                    msgspec.structs.replace(
                        horizon,
                        methods=tuple(
                            msgspec.structs.replace(scores, reliability=()) for scores in horizon.methods
                        ),
                    )
                    for horizon in stream.horizons
                ),
            )
            for stream in evaluation.streams
        ),
    )
