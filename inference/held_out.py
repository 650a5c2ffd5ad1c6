"""The few figures of a manifest's `metrics` that a listing shows: the model's own, on each held-out stream.

`metrics` is what `mambalob evaluate` wrote, or empty, or another program's: whatever is not found is left
out.
"""

from statistics import fmean
from typing import Any

SHOWN = ("log_loss", "direction_auc", "expected_calibration_error", "macro_f1")


def held_out_summary(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """One entry per stream and horizon, with the mean over seeds of those scores in `SHOWN` that were found.

    [{"stream": "BTCUSD_PERP", "horizon": 10, "rows": 4768, "seeds": 3, "log_loss": 0.66, ...}, ...]
    """
    entries = []
    for stream in _records(metrics.get("streams")):
        for horizon in _records(stream.get("horizons")):
            own = [scores for scores in _records(horizon.get("methods")) if scores.get("seed") is not None]
            means = {name: _mean(scores.get(name) for scores in own) for name in SHOWN}
            found = {name: mean for name, mean in means.items() if mean is not None}
            if found:
                entries.append(
                    {
                        "stream": stream.get("stream"),
                        "horizon": horizon.get("horizon"),
                        "rows": horizon.get("rows"),
                        "seeds": len(own),
                        **found,
                    }
                )
    return entries


def _records(value: object) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _mean(values: Any) -> float | None:
    numbers = [value for value in values if isinstance(value, int | float)]
    return round(fmean(numbers), 4) if numbers else None
