"""What a listing shows of a manifest's metrics; anything of another shape is left out, not an error."""

from typing import Any

import pytest

from inference.held_out import held_out_summary

SCORES = {"seed": 0, "log_loss": 0.7, "direction_auc": None, "macro_f1": 0.5}


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        {"streams": None},
        {"streams": [1, "two", {}]},
        {"streams": [{"stream": "A", "horizons": {"10": 1}}]},
        {
            "streams": [
                {"stream": "A", "horizons": [{"horizon": 10, "methods": [{"seed": None, "log_loss": 1}]}]}
            ]
        },
        {
            "streams": [
                {"stream": "A", "horizons": [{"horizon": 10, "methods": [{"seed": 1, "log_loss": "x"}]}]}
            ]
        },
    ],
)
def test_nothing_found_is_nothing_shown(metrics: dict[str, Any]) -> None:
    assert held_out_summary(metrics) == []


def test_one_entry_a_stream_and_horizon_without_what_is_missing() -> None:
    horizons = [{"horizon": horizon, "rows": 5, "methods": [SCORES]} for horizon in (10, 50)]
    summary = held_out_summary({"streams": [{"stream": name, "horizons": horizons} for name in "AB"]})
    assert [(entry["stream"], entry["horizon"]) for entry in summary] == [
        ("A", 10),
        ("A", 50),
        ("B", 10),
        ("B", 50),
    ]
    assert summary[0] == {
        "stream": "A",
        "horizon": 10,
        "rows": 5,
        "seeds": 1,
        "log_loss": 0.7,
        "macro_f1": 0.5,
    }
