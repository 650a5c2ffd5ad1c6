"""Ratios between the subjects of repeated runs, and whether what was set for them is met."""

import numpy as np
import pytest

from bench.engine_ratios import LSTM_SIZE, EngineRatios
from bench.harness import Measured
from bench.repeated_runs import RepeatedRuns
from bench.samples import Samples


class Named:
    method = "known"

    def __init__(self, name: str, model: str, precision: str) -> None:
        self.name, self.model, self.precision = name, model, precision

    def measure(self, durations_ns: Samples) -> None:
        raise AssertionError("the durations are given")


def ratios_of(taken_us: dict[tuple[str, str, str], float]) -> EngineRatios:
    run = [
        Measured(subject=Named(*key), durations_ns=np.full(5, round(us * 1000), dtype=np.int64))
        for key, us in taken_us.items()
    ]
    return EngineRatios(RepeatedRuns(runs=[run]))


MEASURED = {
    ("fused", "base-ssd", "float32"): 20.0,
    ("fused", "base-ssd", "int16"): 10.0,
    ("fused", "base-ssd", "int8"): 8.0,
    ("ort-step", "base-ssd", "float32"): 60.0,
    ("ort-window", "base-ssd", "float32"): 1800.0,
    ("ort-window", "base-s6", "float32"): 6000.0,
    ("fused", "small-ssd", "float32"): 5.0,
    ("fused", "nano-ssd", "float32"): 0.8,
    ("fused-in-jit", "nano-ssd", "float32"): 0.3,
    ("fused", LSTM_SIZE, "float32"): 12.0,
    ("fused", LSTM_SIZE, "int8"): 4.0,
    ("reference-export", "reference", "float32"): 18_000.0,
}


def test_every_target_is_held_against_its_figure() -> None:
    targets = ratios_of(MEASURED).targets()
    assert [(target.found, target.met) for target in targets] == [
        (pytest.approx(30.0), True),  # step over window
        (pytest.approx(300.0), True),  # step over reference
        (pytest.approx(10.0), False),  # SSD window over reference, 15 wanted
        (pytest.approx(3.0), False),  # S6 window over reference, 4 wanted
        (pytest.approx(900.0), True),  # fused
        (pytest.approx(2250.0), True),  # fused, the best reduced format
        (5.0, False),  # not below 5
        (0.3, True),
        (0.8, True),
        (4.0, True),
    ]
    assert str(targets[0]) == "ort-step of base SSD over ort-window of the same weights: 30.0x, target 25x"
    assert str(targets[2]).endswith("10.0x, target 15x (missed)")
    assert str(targets[-1]).endswith("4.00 us, target below 10 us")


def test_only_what_was_measured_is_held() -> None:
    assert ratios_of({("fused", "base-s6", "int8"): 1.0}).targets() == []
    only = ratios_of({key: us for key, us in MEASURED.items() if key[1] == "base-ssd"}).targets()
    assert [target.wanted for target in only] == ["25x"]


def test_ratios_over_the_reference_and_over_the_window_of_the_same_model() -> None:
    ratios = ratios_of(MEASURED)
    found = {(one.subject, one.model, one.precision): one for one in ratios.results}
    assert ratios.over_window(found["fused", "base-ssd", "int8"]) == pytest.approx(225.0)
    assert ratios.over_window(found["fused", "small-ssd", "float32"]) is None
    assert ratios.over_reference(found["ort-window", "base-s6", "float32"]) == pytest.approx(3.0)
    assert ratios.over_reference(found["reference-export", "reference", "float32"]) is None


def test_a_call_after_idle_is_compared_with_calls_after_idle() -> None:
    ratios = ratios_of(
        {
            ("fused-idle", "m", "float32"): 50.0,
            ("ort-window", "m", "float32"): 900.0,
            ("ort-window-idle", "m", "float32"): 1000.0,
            ("reference-export", "reference", "float32"): 10_000.0,
        }
    )
    idle = ratios.results[0]
    assert ratios.over_window(idle) == pytest.approx(20.0)
    assert ratios.over_reference(idle) is None
