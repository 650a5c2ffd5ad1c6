"""How engines and peers of one run compare: ratios, and the targets that were set for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.engine_subjects import IN_JIT
from bench.repeated_runs import RepeatedRuns
from bench.report import Result
from bench.row_subject import IDLE
from inference.fused.weight_format import PRECISIONS

REFERENCE: Final = ("reference-export", "reference", "float32")
REDUCED: Final = tuple(precision for precision in PRECISIONS if precision != "float32")
LSTM_SIZE: Final = "lstm-a-size-ssd"
"""The model of LSTM_A's size in results."""

Key = tuple[str, str, str]
"""subject, model, precision."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Something that was to be reached, and what was found."""

    title: str
    wanted: str
    found: float
    unit: str
    met: bool

    def __str__(self) -> str:
        """One line."""
        digits = 0 if self.found >= 100 else 1 if self.found >= 10 else 2
        return f"{self.title}: {self.found:,.{digits}f}{self.unit}, target {self.wanted}" + (
            "" if self.met else " (missed)"
        )


class EngineRatios:
    """The ratios of repeated runs, looked up by subject, model and precision."""

    def __init__(self, runs: RepeatedRuns) -> None:
        self._runs = runs
        self.results = runs.results()
        self._places = {key_of(result): place for place, result in enumerate(self.results)}

    def speedup(self, key: Key, other: Key) -> float | None:
        """How many times faster `key` is than `other`, uninterrupted; None where one was not measured."""
        if key == other or key not in self._places or other not in self._places:
            return None
        return self._runs.speedup(self._places[key], self._places[other])

    def over_reference(self, result: Result) -> float | None:
        """How many times faster than the reference design's export, both warm or both after idle."""
        subject, model, precision = REFERENCE
        return self.speedup(key_of(result), (subject + _idle(result), model, precision))

    def over_window(self, result: Result) -> float | None:
        """How many times faster than `ort-window` of the same weights, both warm or both after idle."""
        return self.speedup(key_of(result), ("ort-window" + _idle(result), result.model, "float32"))

    def processor_us(self, result: Result) -> float:
        """Processor time of a call on average."""
        return self._runs.processor_us(self._places[key_of(result)])

    def targets(self) -> list[Target]:
        """What was set for the subjects that were measured, in the order it was set."""
        window, step, fused = ((name, "base-ssd", "float32") for name in ("ort-window", "ort-step", "fused"))
        ratios = [
            ("ort-step of base SSD over ort-window of the same weights", [step], window, 25),
            ("ort-step of base SSD over the reference export", [step], REFERENCE, 300),
            ("ort-window of base SSD over the reference export", [window], REFERENCE, 15),
            ("ort-window of base S6 over the reference export", [_s6(window)], REFERENCE, 4),
            ("fused base SSD in float32 over the reference export", [fused], REFERENCE, 750),
            (
                "fused base SSD in its best reduced format over the reference export",
                [_in(fused, precision) for precision in REDUCED],
                REFERENCE,
                1500,
            ),
        ]
        found = [self._ratio(title, keys, other, least) for title, keys, other, least in ratios]
        small, nano = (("fused", f"{size}-ssd", "float32") for size in ("small", "nano"))
        in_jit = (IN_JIT, "nano-ssd", "float32")
        lstm = [("fused", LSTM_SIZE, precision) for precision in PRECISIONS]
        found += [
            self._below("fused small SSD in float32, p50", [small], 5.0, lambda result: result.p50),
            self._below("fused nano SSD in float32, p50 inside jitted code", [in_jit], 1.0, lambda r: r.p50),
            self._below("fused nano SSD in float32, p50 from Python", [nano], 2.0, lambda r: r.p50),
            self._below("fused at LSTM_A's size in its best format, p99", lstm, 10.0, lambda r: r.p99),
        ]
        return [target for target in found if target is not None]

    def _ratio(self, title: str, keys: Sequence[Key], other: Key, least: float) -> Target | None:
        ratios = [ratio for key in keys if (ratio := self.speedup(key, other)) is not None]
        if not ratios:
            return None
        best = max(ratios)
        return Target(title=title, wanted=f"{least:,}x", found=best, unit="x", met=best >= least)

    def _below(
        self, title: str, keys: Sequence[Key], most_us: float, figure: Callable[[Result], float]
    ) -> Target | None:
        figures = [figure(self.results[self._places[key]]) for key in keys if key in self._places]
        if not figures:
            return None
        best = min(figures)
        return Target(title=title, wanted=f"below {most_us:g} us", found=best, unit=" us", met=best < most_us)


def key_of(result: Result) -> Key:
    """What a result is looked up by."""
    return result.subject, result.model, result.precision


def _idle(result: Result) -> str:
    return IDLE if result.subject.endswith(IDLE) else ""


def _s6(key: Key) -> Key:
    subject, model, precision = key
    return subject, model.replace("-ssd", "-s6"), precision


def _in(key: Key, precision: str) -> Key:
    subject, model, _ = key
    return subject, model, precision
