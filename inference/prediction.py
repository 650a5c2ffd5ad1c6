"""A prediction as subscribers see it: the `data` object of the stream's prediction messages."""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.json import Encoder

from inference.calibration import Calibration


class HorizonPrediction(Struct, gc=False):
    """What is expected of the mean mid of the next `horizon` rows against the mid now.

    `direction` is -1 down, 0 flat, 1 up; `confidence` is the calibrated probability of that direction;
    `probabilities` (C,) are down, flat, up and sum to 1.
    """

    horizon: int
    direction: int
    confidence: float
    probabilities: list[float]


class Prediction(Struct, gc=False):
    """All horizons' predictions at one book update, with the update's own times, and the model they are of.

    `model`, `engine` and `precision` (the number format) say what answered.
    `exchange_ms` is the matching engine's clock. `receive_ns` and `emit_ns` are this process's, comparable
    with each other; `emit_ns` and `latency_us` are 0 until `stamp` is called by whoever sends the prediction
    out.
    """

    symbol: str
    model: str
    model_version: str
    engine: str
    precision: str
    update_id: int
    exchange_ms: int
    receive_ns: int
    emit_ns: int
    latency_us: float
    mid: float
    horizons: list[HorizonPrediction]

    def stamp(self, emit_ns: int) -> None:
        """Set when the prediction left, and the time since its frame was received."""
        self.emit_ns = emit_ns
        self.latency_us = (emit_ns - self.receive_ns) / 1000


def predicted_horizons(calibration: Calibration, horizons: Sequence[int]) -> list[HorizonPrediction]:
    """What `calibration` holds after `apply`, for the model's `horizons` (H,)."""
    predicted, best = [], calibration.best.tolist()
    for place, probabilities in enumerate(calibration.probabilities.tolist()):
        top = best[place]
        predicted.append(HorizonPrediction(horizons[place], top - 1, probabilities[top], probabilities))
    return predicted


_ENCODER = Encoder()


def encode_prediction(prediction: Prediction) -> bytes:
    """The prediction as one JSON object, fields in the documented order."""
    return _ENCODER.encode(prediction)
