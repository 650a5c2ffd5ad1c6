"""Held-out scores of trained models beside the baselines, in the context that is served.

Every stream's part is run from its beginning with the state carried from row to row, zero at the start and
wherever the book started anew; the rows a service would not answer (the warm-up) are left out for every
method alike, so that all are scored on the same rows. Thresholds of labels and of the microprice rule, class
shares and both logistic regressions come from training parts only, temperatures from validation parts only.
Of a part longer than `training.thinning` allows every k-th row is scored, or fitted to.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lob.errors import InputError
from training.baselines import LogisticBaseline, fit_microprice_rule, prior_log_probabilities
from training.bootstrap import (
    BLOCK_ROWS,
    FEWEST_ROWS,
    RESAMPLES,
    BlockResamples,
    Interval,
    direction_auc_difference,
    log_loss_difference,
)
from training.calibration import fit_temperature
from training.evaluation import Comparison, Evaluation, HorizonEvaluation, StreamEvaluation
from training.forecast import scored_rows
from training.metrics import ECE_BINS, Floats, class_shares, log_softmax
from training.pool import LabelledStream
from training.run_directory import RunRecord
from training.scores import (
    MAJORITY,
    MICROPRICE,
    direction_scores,
    number,
    score_forecast,
    score_prior,
    score_rule,
)
from training.thinning import every

POOLED, OWN = "logistic, all streams", "logistic, this stream"


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """A trained model's answers to one part of one stream."""

    method: str
    seed: int | None
    logits: NDArray[np.float32]  # (N, H, C), one for each row of the part
    temperatures: tuple[float, ...]  # (H,)


def evaluate_streams(
    model: str,
    record: RunRecord,
    streams: Sequence[LabelledStream],
    chosen: Sequence[LabelledStream],
    forecasts: Mapping[str, Sequence[Forecast]],
    *,
    part: str,
) -> Evaluation:
    """Scores of every chosen stream's `forecasts`, and of baselines fitted to `streams`.

    The pooled logistic regression is fitted to those of `streams` that the model was trained on (all of them
    where it was trained on none), the other one to the stream scored alone.
    """
    seen = [stream for stream in streams if record.stream(stream.name) is not None] or list(streams)
    validation = [stream for stream in seen if stream.name in record.validation_streams] or seen
    pooled = fit_logistic_baselines(POOLED, seen, validation, record.warmup_rows)
    evaluated = []
    for stream in chosen:
        own = [stream] if len(stream.split.validation) > record.warmup_rows + max(stream.horizons) else []
        baselines = [pooled]
        if len(seen) > 1 and stream.shares("training").all():
            baselines.append(fit_logistic_baselines(OWN, [stream], own or validation, record.warmup_rows))
        evaluated.append(
            evaluate_stream(
                stream, forecasts[stream.name], baselines, part=part, warmup_rows=record.warmup_rows
            )
        )
    seeds = {forecast.seed for each in forecasts.values() for forecast in each if forecast.seed is not None}
    return Evaluation(
        model=model,
        part=part,
        context=record.context,
        warmup_rows=record.warmup_rows,
        seeds=tuple(sorted(seeds)),
        logistic_fitted_on=pooled.streams,
        ece_bins=ECE_BINS,
        streams=tuple(evaluated),
    )


@dataclass(frozen=True, kw_only=True)
class FittedBaselines:
    """One logistic regression a horizon, fitted to the streams named, and its temperature."""

    method: str
    streams: tuple[str, ...]
    models: tuple[LogisticBaseline, ...]  # (H,)
    temperatures: tuple[float, ...]  # (H,)


def fit_logistic_baselines(
    method: str,
    streams: Sequence[LabelledStream],
    validation: Sequence[LabelledStream],
    warmup_rows: int,
) -> FittedBaselines:
    """The last row's logistic regressions on the training parts, calibrated as the models are."""
    models, temperatures = [], []
    for horizon, ahead in enumerate(streams[0].horizons):
        rows, labels = gathered(streams, "training", horizon, warmup_rows=1)
        model = LogisticBaseline(rows, labels)
        rows, labels = gathered(validation, "validation", horizon, warmup_rows=warmup_rows)
        models.append(model)
        temperatures.append(fit_temperature(model.logits(rows), labels, overlap_rows=ahead))
    return FittedBaselines(
        method=method,
        streams=tuple(stream.name for stream in streams),
        models=tuple(models),
        temperatures=tuple(temperatures),
    )


def gathered(
    streams: Sequence[LabelledStream], part: str, horizon: int, *, warmup_rows: int
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """The rows (N, F) and labels (N,) of a part of all streams, at one horizon, where there is a label.

    Of long parts together every k-th row.
    """
    k = every(sum(len(stream.split.part(part)) for stream in streams))
    rows, labels = [], []
    for stream in streams:
        kept = labelled_rows(stream, part, horizon, scored_rows(stream, part, warmup_rows, k=k))
        rows.append(stream.dataset.rows[stream.split.part(part).start + kept])
        labels.append(stream.part_labels(part)[kept, horizon])
    return np.concatenate(rows), np.concatenate(labels)


def labelled_rows(
    stream: LabelledStream, part: str, horizon: int, rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Those of `rows` of a part that have a label at horizon number `horizon`."""
    return np.asarray(rows[stream.part_labels(part)[rows, horizon] >= 0])


def evaluate_stream(
    stream: LabelledStream,
    forecasts: Sequence[Forecast],
    baselines: Sequence[FittedBaselines],
    *,
    part: str,
    warmup_rows: int,
) -> StreamEvaluation:
    """Scores of `forecasts` and baselines on a part; InputError where no row of it can be scored."""
    rows = stream.split.part(part)
    horizons = []
    for index in range(len(stream.horizons)):
        scored = labelled_rows(stream, part, index, scored_rows(stream, part, warmup_rows))
        if not len(scored):
            raise InputError(
                f"stream {stream.name}: no row of its {part} part ({len(rows)} rows) can be scored at "
                f"horizon {stream.horizons[index]} after {warmup_rows} rows of warm-up"
            )
        horizons.append(evaluate_horizon(stream, index, forecasts, baselines, part=part, scored=scored))
    clock = stream.dataset.exchange_ms
    return StreamEvaluation(
        stream=stream.name,
        first_ms=int(clock[rows.start]),
        last_ms=int(clock[rows.stop - 1]),
        horizons=tuple(horizons),
    )


def evaluate_horizon(
    stream: LabelledStream,
    index: int,
    forecasts: Sequence[Forecast],
    baselines: Sequence[FittedBaselines],
    *,
    part: str,
    scored: NDArray[np.int64],
) -> HorizonEvaluation:
    """Scores at horizon number `index` on the rows (N,) of the part that are `scored`."""
    features = stream.dataset.rows[stream.split.part(part).start + scored]
    labels = stream.part_labels(part)[scored, index]
    training_features, training_labels = gathered([stream], "training", index, warmup_rows=1)
    shares = class_shares(training_labels)
    column = stream.dataset.schema.feature_names.index("microprice")
    microprice = features[:, column].astype(np.float64)  # (N,) less the mid, in ticks
    rule = fit_microprice_rule(training_features[:, column], training_labels)
    log_prior = prior_log_probabilities(training_labels)
    logistic = [
        Answers(
            method=each.method,
            logits=each.models[index].logits(features),
            temperature=each.temperatures[index],
        )
        for each in baselines
    ]
    models = [
        Answers(
            method=each.method,
            logits=each.logits[scored, index],
            temperature=each.temperatures[index],
            seed=each.seed,
        )
        for each in forecasts
    ]
    return HorizonEvaluation(
        horizon=stream.horizons[index],
        threshold=stream.thresholds[index],
        rows=len(labels),
        shares=tuple(class_shares(labels).tolist()),
        training_shares=tuple(shares.tolist()),
        methods=(
            score_prior(log_prior, labels),
            score_rule(rule.decide(microprice), microprice, labels),
            *(
                score_forecast(
                    each.method,
                    each.logits,
                    labels,
                    temperature=each.temperature,
                    training_shares=shares,
                    seed=each.seed,
                )
                for each in (*logistic, *models)
            ),
        ),
        comparisons=tuple(compare(models, logistic, log_prior, microprice, labels)) if models else (),
    )


@dataclass(frozen=True, kw_only=True)
class Answers:
    """A method's logits at one horizon on the rows that are scored."""

    method: str
    logits: NDArray[np.floating]  # (N, C)
    temperature: float
    seed: int | None = None

    def log_losses(self, labels: NDArray[np.integer]) -> Floats:
        """(N,) negative log probability of the class that came, calibrated."""
        log_probabilities = log_softmax(np.asarray(self.logits, dtype=np.float64) / self.temperature)
        return np.asarray(-log_probabilities[np.arange(len(labels)), labels])


def compare(
    models: Sequence[Answers],
    logistic: Sequence[Answers],
    log_prior: Floats,
    microprice: Floats,
    labels: NDArray[np.integer],
) -> Iterator[Comparison]:
    """The models' mean log loss and direction AUC against those of the baselines that have one."""
    rows = len(labels)
    count = RESAMPLES if rows >= FEWEST_ROWS else 0
    resamples = BlockResamples(rows, block_rows=BLOCK_ROWS, resamples=count, seed=0)
    ours = np.mean([model.log_losses(labels) for model in models], axis=0)
    prior = Answers(method=MAJORITY, logits=np.tile(log_prior, (len(labels), 1)), temperature=1.0)
    for baseline in (prior, *logistic):
        found = log_loss_difference(ours, baseline.log_losses(labels), resamples)
        yield comparison("log loss", baseline.method, found)
    scores = [direction_scores(model.logits) for model in models]
    found = direction_auc_difference(scores, microprice, labels, resamples)
    yield comparison("direction AUC", MICROPRICE, found)


def comparison(score: str, against: str, found: Interval) -> Comparison:
    """A bootstrap interval as a record."""
    return Comparison(
        score=score,
        against=against,
        difference=number(found.difference),
        low=number(found.low),
        high=number(found.high),
    )
