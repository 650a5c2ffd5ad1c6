"""The few held-out figures of a manifest that a listing shows: the model's own scores, and what formats cost.

`metrics` is what `mambalob evaluate` wrote, or empty, or another program's: whatever is not found is left
out.
"""

from collections.abc import Iterable
from statistics import fmean
from typing import Any

from inference.manifest import AccuracyCost

COSTS = (
    "log_loss_rise",
    "calibration_error_rise",
    "macro_f1_loss",
    "changed_directions",
    "probability_difference",
)
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


def greatest_costs(costs: Iterable[AccuracyCost]) -> dict[tuple[str, str], dict[str, float]]:
    """The greatest of each of `COSTS` over all streams and horizons, by engine and number format."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for cost in costs:
        greatest = found.setdefault((cost.engine, cost.precision), {})
        for name in COSTS:
            came = getattr(cost, name)
            greatest[name] = max(came, greatest.get(name, came))
    return found


def _records(value: object) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _mean(values: Any) -> float | None:
    numbers = [value for value in values if isinstance(value, int | float)]
    return round(fmean(numbers), 4) if numbers else None
