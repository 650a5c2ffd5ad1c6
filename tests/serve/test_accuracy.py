from random import Random

import msgspec
import numpy as np
import pytest

from inference.artifact import load_artifact
from inference.manifest import Manifest
from inference.prediction import HorizonPrediction, Prediction
from lob.errors import InputError
from lob.labels import classify, mean_future_mid_change
from serve.accuracy import MaturedAccuracy, label_thresholds

HORIZONS = (3, 7)
THRESHOLDS = (0.0, 1e-6)


def predict(mid: float, directions: tuple[int, ...]) -> Prediction:
    horizons = [
        HorizonPrediction(horizon, direction, 0.5, [0.25, 0.5, 0.25])
        for horizon, direction in zip(HORIZONS, directions, strict=True)
    ]
    return Prediction("BTCUSDT", "m", "1", "e", "float32", 1, 1, 1, 2, 0.001, mid, horizons)


def walk(rows: int, seed: int) -> list[tuple[float, tuple[int, int]]]:
    """Mids that often stand still, and directions drawn at random."""
    random = Random(seed)
    mid, made = 60_000.0, []
    for _ in range(rows):
        mid += random.choice([0, 0, 0, 0.05, -0.05, 0.5])
        made.append((mid, (random.choice([-1, 0, 1]), random.choice([-1, 0, 1]))))
    return made


def test_scores_are_those_of_the_labels_of_the_whole_stretch() -> None:
    made = walk(400, seed=3)
    accuracy = MaturedAccuracy(HORIZONS, THRESHOLDS)
    for mid, directions in made:
        accuracy.on_prediction(predict(mid, directions))
    mids = np.array([mid for mid, _ in made])
    for place, score in enumerate(accuracy.horizons):
        labels = classify(mean_future_mid_change(mids, score.horizon), score.threshold)[: -score.horizon]
        predicted = np.array([given[place] for _, given in made])[: -score.horizon]
        assert score.matured == len(labels) == 400 - score.horizon
        assert score.right == int(np.sum(predicted == labels - 1))
        assert score.classes == [int(np.sum(labels == label)) for label in range(3)]
        assert min(score.classes) > 0
        assert score.accuracy == score.right / score.matured
        assert score.commonest_share == max(score.classes) / score.matured


def test_nothing_matures_across_a_restart() -> None:
    accuracy = MaturedAccuracy(HORIZONS, THRESHOLDS)
    assert accuracy.horizons[0].accuracy is None
    assert accuracy.horizons[0].commonest_share is None
    for mid, directions in walk(7, seed=1):
        accuracy.on_prediction(predict(mid, directions))
    assert [score.matured for score in accuracy.horizons] == [4, 0]
    accuracy.restart()
    for mid, directions in walk(5, seed=2):
        accuracy.on_prediction(predict(mid, directions))
    assert [score.matured for score in accuracy.horizons] == [6, 0]


def test_thresholds_are_those_the_artifact_states_for_the_symbol(models_dir) -> None:
    manifest = load_artifact(models_dir / "tiny").manifest
    assert label_thresholds(manifest, "BTCUSDT") == (1e-6, 5e-6, 1e-5)

    def with_streams(*streams: dict) -> Manifest:
        details = {"run": {"streams": list(streams)}}
        training = msgspec.structs.replace(manifest.training, details=details)
        return msgspec.structs.replace(manifest, training=training)

    several = with_streams(
        {"symbol": "A", "thresholds": [1, 20, 300]},
        {"symbol": "A", "thresholds": [2, 10, 100]},
        {"symbol": "A", "thresholds": [3, 30, 200]},
        {"symbol": "B", "thresholds": [9, 9, 9]},
    )
    assert label_thresholds(several, "A") == (2, 20, 200)
    assert label_thresholds(several, "B") == (9, 9, 9)
    assert label_thresholds(several, "C") == (3, 20, 200)
    for spoilt in (with_streams(), with_streams({"symbol": "A", "thresholds": [1]})):
        with pytest.raises(InputError, match="model tiny does not state its label thresholds"):
            label_thresholds(spoilt, "A")
    bare = msgspec.structs.replace(manifest, training=msgspec.structs.replace(manifest.training, details={}))
    with pytest.raises(InputError, match="model tiny does not state its label thresholds"):
        label_thresholds(bare, "A")
