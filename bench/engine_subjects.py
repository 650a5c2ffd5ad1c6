"""Our engines on one artifact, as subjects that read the same rows."""

from collections.abc import Sequence
from typing import Final

from bench.compiled_clock import new_stamp, timed_step
from bench.harness import Subject
from bench.row_subject import RowSubject
from bench.row_tape import Rows
from bench.samples import Samples
from bench.stages import available_engines
from inference.artifact import Artifact
from inference.engines.selection import create_engine, offered_precisions
from inference.fused.loaded_model import fused_weights, load_model
from inference.fused.model_weights import pack_weights
from inference.fused.weight_format import weight_format
from lob.window import RingWindow

IN_JIT: Final = "fused-in-jit"
"""The fused step timed inside jitted code, without the call from Python."""


class FusedInJit:
    """The fused step between two readings of a clock inside one jitted call."""

    name = IN_JIT
    method = "the fused step between two readings of the clock inside one jitted call"

    def __init__(self, artifact: Artifact, model: str, precision: str, rows: Rows) -> None:
        """Load the step graph of `artifact`; raises as `inference.fused.loaded_model`."""
        weights = fused_weights(artifact)
        loaded = load_model(weights.sizes, precision, pack_weights(weights, weight_format(precision)))
        self.model, self.precision = model, precision
        self._timed = timed_step(loaded.step)
        self._arguments = (loaded.params, loaded.new_state(), loaded.new_scratch(), new_stamp())
        self._rows = rows
        self._next = 0
        self._timed(rows[0], *self._arguments)  # which compiles it

    def measure(self, durations_ns: Samples) -> None:
        """Time as many steps as `durations_ns` (N,) has room for, a new row each."""
        timed, rows = self._timed, self._rows
        for index in range(len(durations_ns)):
            durations_ns[index] = timed(rows[self._next], *self._arguments)
            self._next = (self._next + 1) % len(rows)


def make_engine_subjects(
    artifact: Artifact,
    model: str,
    rows: Rows,
    precisions: Sequence[str],
    *,
    engines: Sequence[str] | None = None,
    in_jit: bool = False,
) -> list[Subject]:
    """Each engine that can run `artifact` in each of the `precisions` it has; `model` is its name in results.

    `engines`: only these. `in_jit`: also the fused step inside jitted code. Raises as the engines do.
    """
    subjects: list[Subject] = []
    offered = offered_precisions(artifact)
    for engine in available_engines(artifact):
        if engines is not None and engine not in engines:
            continue
        for precision in precisions:
            if precision not in offered[engine]:
                continue
            subjects.append(_engine_subject(artifact, engine, model, precision, rows))
            if engine == "fused" and in_jit:
                subjects.append(FusedInJit(artifact, model, precision, rows))
    return subjects


def _engine_subject(artifact: Artifact, name: str, model: str, precision: str, rows: Rows) -> RowSubject:
    ring = RingWindow(artifact.manifest.window_length, artifact.schema.feature_count)
    engine = create_engine(name, artifact, ring, precision=precision)
    return RowSubject(
        name=name,
        model=model,
        precision=precision,
        method="engine.push(row) from Python",
        push=engine.push,
        ring=ring,
        rows=rows,
    )
