"""How often matured predictions were right, by the label definition their model was trained with.

A prediction over k rows matures when k further rows have come: its label is the class of the mean of those k
mids against the mid it was made at, by the threshold that the artifact states (`lob.labels`).
"""

from collections import deque
from collections.abc import Sequence

import msgspec

from inference.manifest import Manifest
from inference.prediction import Prediction
from lob.errors import InputError
from lob.labels import FLAT, classify, mean_future_mid_change


class _TrainedStream(msgspec.Struct):
    symbol: str
    thresholds: tuple[float, ...]


class _Run(msgspec.Struct):
    streams: tuple[_TrainedStream, ...]


class _Details(msgspec.Struct):
    run: _Run


def label_thresholds(manifest: Manifest, symbol: str) -> tuple[float, ...]:
    """The thresholds (H,), relative changes of the mid, of the stream of `symbol` a model was trained on.

    Where it was trained on several streams of that symbol: the middle of theirs, per horizon; where on none
    of it, of all its streams. Raises InputError where the manifest states none.
    """
    try:
        run = msgspec.convert(manifest.training.details, _Details).run
    except msgspec.ValidationError as error:
        raise InputError(f"model {manifest.name} does not state its label thresholds: {error}") from error
    same = [stream.thresholds for stream in run.streams if stream.symbol == symbol]
    candidates = [t for t in same or [s.thresholds for s in run.streams] if len(t) == len(manifest.horizons)]
    if not candidates:
        raise InputError(f"model {manifest.name} does not state its label thresholds")
    return tuple(sorted(column)[len(column) // 2] for column in zip(*candidates, strict=True))


class HorizonAccuracy:
    """Matured predictions of one horizon: how many, how many right, and how many of each class."""

    def __init__(self, horizon: int, threshold: float) -> None:
        self.horizon = horizon
        self.threshold = threshold
        self.matured = 0
        self.right = 0
        self.classes = [0, 0, 0]  # down, flat, up

    @property
    def accuracy(self) -> float | None:
        """The share of right ones; None before the first has matured."""
        return self.right / self.matured if self.matured else None

    @property
    def commonest_share(self) -> float | None:
        """What always naming the commonest class would have reached, were it known beforehand."""
        return max(self.classes) / self.matured if self.matured else None


class MaturedAccuracy:
    """Follows one symbol's predictions, one a sampled row, and scores each when its future has come.

    `restart` begins anew wherever rows are missing: after a state other than LIVE, and after messages missed.
    """

    def __init__(self, horizons: Sequence[int], thresholds: Sequence[float]) -> None:
        self.horizons = [
            HorizonAccuracy(horizon, threshold)
            for horizon, threshold in zip(horizons, thresholds, strict=True)
        ]
        # The last rows' mids and directions: as many as the longest horizon looks ahead, and one.
        self._rows: deque[tuple[float, list[int]]] = deque(maxlen=max(horizons) + 1)

    def restart(self) -> None:
        """Forget the predictions that have not matured."""
        self._rows.clear()

    def on_prediction(self, prediction: Prediction) -> None:
        """Take the prediction of the next row; scores those that it makes mature."""
        self._rows.append((prediction.mid, [horizon.direction for horizon in prediction.horizons]))
        for place, score in enumerate(self.horizons):
            made = len(self._rows) - 1 - score.horizon
            if made < 0:
                continue
            mids = [mid for mid, _ in list(self._rows)[made:]]
            change = mean_future_mid_change(mids, score.horizon)[:1]
            label = int(classify(change, score.threshold)[0])
            score.matured += 1
            score.classes[label] += 1
            score.right += self._rows[made][1][place] == label - FLAT
