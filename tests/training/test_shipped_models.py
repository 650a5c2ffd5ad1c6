"""The artifacts that ship, in the engine that serves them: what their cards say is what comes out."""

from pathlib import Path

import pytest

from inference.artifact import Artifact
from inference.registry import load_model
from training.builder import BuildConfig, build_dataset
from training.evaluate import evaluate_streams
from training.evaluation import Evaluation
from training.held_out import artifact_forecasts, artifact_record, recorded_streams
from training.scores import Scores

REAL, SIMULATED = "btc-perp-ssd-small", "sim-ssd-small"
HORIZONS = (10, 50, 100)


def saved_scores(artifact: Artifact, stream: str) -> dict[int, dict[str, dict[str, float]]]:
    """The manifest's held-out scores of a stream: horizon to method to score."""
    (found,) = [each for each in artifact.manifest.metrics["streams"] if each["stream"] == stream]
    return {
        horizon["horizon"]: {scores["method"]: scores for scores in horizon["methods"]}
        for horizon in found["horizons"]
    }


@pytest.fixture(scope="module")
def real() -> Artifact:
    """The model of the real captures."""
    return load_model(REAL)


@pytest.fixture(scope="module")
def evaluation(real: Artifact, data_dir: Path) -> Evaluation:
    """Its scores on the held-out part of BTCUSD_PERP, computed here."""
    captures = [data_dir / "binance" / f"cm_btcusd_perp_2024080{day}.gz" for day in (8, 9)]
    dataset = build_dataset(captures, BuildConfig(name="btcusd-perp", tick_size="0.1"))
    record = artifact_record(real)
    streams = recorded_streams(record, [dataset])
    forecasts = artifact_forecasts(real, streams, "test")
    return evaluate_streams(real.name, record, streams, streams, forecasts, part="test")


def scores_of(evaluation: Evaluation, horizon: int, method: str) -> Scores:
    """One method's scores at one horizon."""
    (found,) = [each for each in evaluation.streams[0].horizons if each.horizon == horizon]
    return next(scores for scores in found.methods if scores.method.startswith(method))


@pytest.mark.parametrize("horizon", HORIZONS)
def test_the_real_model_serves_the_scores_of_its_manifest(
    real: Artifact, evaluation: Evaluation, horizon: int
) -> None:
    saved = saved_scores(real, "btcusd-perp")[horizon][f"mambalob, seed {real.manifest.training.seed}"]
    served = scores_of(evaluation, horizon, REAL)
    for score in ("log_loss", "direction_auc", "expected_calibration_error", "macro_f1"):
        assert getattr(served, score) == pytest.approx(saved[score], abs=2e-3)


@pytest.mark.parametrize("horizon", HORIZONS)
def test_the_real_model_reaches_its_target(evaluation: Evaluation, horizon: int) -> None:
    served = scores_of(evaluation, horizon, REAL)
    prior = scores_of(evaluation, horizon, "majority class")
    rule = scores_of(evaluation, horizon, "microprice rule")
    assert served.log_loss is not None
    assert served.direction_auc is not None
    assert served.expected_calibration_error is not None
    assert prior.log_loss is not None
    assert rule.direction_auc is not None
    assert served.log_loss < prior.log_loss
    assert served.direction_auc >= rule.direction_auc - 0.01
    assert served.expected_calibration_error < 0.05


def test_the_real_model_is_no_worse_than_a_logistic_regression_at_ten_rows(real: Artifact) -> None:
    scores = saved_scores(real, "btcusd-perp")[10]
    logistic = [scores[name]["log_loss"] for name in ("logistic, all streams", "logistic, this stream")]
    seeds = [each["log_loss"] for name, each in scores.items() if name.startswith("mambalob")]
    assert len(seeds) == 3
    assert sum(seeds) / 3 <= min(logistic)


@pytest.mark.parametrize("horizon", HORIZONS)
def test_the_simulated_markets_model_beats_every_baseline_there(horizon: int) -> None:
    artifact = load_model(SIMULATED)
    streams = artifact.manifest.metrics["streams"]
    assert streams
    for stream in streams:
        scores = saved_scores(artifact, stream["stream"])[horizon]
        models = [each for name, each in scores.items() if name.startswith("mambalob")]
        others = [each for name, each in scores.items() if not name.startswith("mambalob")]
        assert len(models) == 3
        for model in models:
            assert model["log_loss"] < min(
                each["log_loss"] for each in others if each["log_loss"] is not None
            )
            assert model["direction_auc"] > max(each["direction_auc"] for each in others)


@pytest.mark.parametrize("name", [REAL, SIMULATED])
def test_what_ships_is_small_streams_and_has_a_card_with_its_commands(name: str) -> None:
    artifact = load_model(name)
    manifest = artifact.manifest
    assert (manifest.architecture.size, manifest.architecture.block) == ("small", "ssd")
    assert (manifest.context, manifest.sampling, manifest.horizons) == ("stream", "top_changed", HORIZONS)
    assert set(manifest.graphs) == {"step", "window"}
    card = artifact.card()
    for command in ("mambalob build", "mambalob train", "mambalob evaluate", "mambalob export"):
        assert command in card
    for file in manifest.training.files:
        assert file.name in card
        assert file.sha256 in card
