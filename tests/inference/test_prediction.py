"""A prediction's JSON is the documented one, field by field."""

import json

from inference.prediction import HorizonPrediction, Prediction, encode_prediction


def prediction() -> Prediction:
    return Prediction(
        symbol="BTCUSDT",
        model="small",
        model_version="3",
        engine="ort-step",
        precision="float32",
        update_id=7,
        exchange_ms=1_700_000_000_123,
        receive_ns=1_700_000_000_125_000_000,
        emit_ns=0,
        latency_us=0.0,
        mid=100.25,
        horizons=[
            HorizonPrediction(horizon=10, direction=1, confidence=0.71, probabilities=[0.1, 0.19, 0.71])
        ],
    )


def test_encodes_the_documented_fields_in_order() -> None:
    stamped = prediction()
    stamped.stamp(1_700_000_000_125_012_500)
    document = json.loads(encode_prediction(stamped))
    assert list(document) == [
        "symbol",
        "model",
        "model_version",
        "engine",
        "precision",
        "update_id",
        "exchange_ms",
        "receive_ns",
        "emit_ns",
        "latency_us",
        "mid",
        "horizons",
    ]
    assert document["emit_ns"] == 1_700_000_000_125_012_500
    assert document["latency_us"] == 12.5
    assert document["horizons"] == [
        {"horizon": 10, "direction": 1, "confidence": 0.71, "probabilities": [0.1, 0.19, 0.71]}
    ]


def test_before_the_stamp_nothing_was_emitted() -> None:
    document = json.loads(encode_prediction(prediction()))
    assert (document["emit_ns"], document["latency_us"]) == (0, 0.0)
