"""Engines as subjects on rows in memory: which there are, and that they run what serves."""

import numpy as np
import pytest

from bench.engine_subjects import IN_JIT, FusedInJit, make_engine_subjects
from bench.row_subject import RowSubject
from bench.row_tape import seeded_rows
from inference.artifact import Artifact
from inference.engines.selection import create_engine
from inference.fused.weight_format import PRECISIONS as FUSED_PRECISIONS
from inference.precision import PRECISIONS
from lob.window import RingWindow

ROWS = seeded_rows(2, 130)


def test_each_engine_in_each_format_it_has(nano_artifact: Artifact) -> None:
    subjects = make_engine_subjects(nano_artifact, "nano", ROWS, PRECISIONS, in_jit=True)
    assert [(one.name, one.precision) for one in subjects] == [
        *((name, precision) for precision in FUSED_PRECISIONS for name in ("fused", IN_JIT)),
        ("ort-step", "float32"),
        ("ort-step", "float16"),
        ("ort-window", "float32"),
        ("ort-window", "float16"),
    ]
    assert {one.model for one in subjects} == {"nano"}
    for subject in subjects:
        durations_ns = np.full(40, -1, dtype=np.int64)
        subject.measure(durations_ns)
        assert durations_ns.min() >= 0
        assert subject.method


def test_formats_and_engines_are_chosen(nano_artifact: Artifact) -> None:
    chosen = make_engine_subjects(nano_artifact, "nano", ROWS, ["int8"])
    assert [(one.name, one.precision) for one in chosen] == [("fused", "int8")]
    only = make_engine_subjects(nano_artifact, "nano", ROWS, ["float32"], engines=["ort-step"])
    assert [one.name for one in only] == ["ort-step"]


def test_the_step_inside_jitted_code_is_the_engines(nano_artifact: Artifact) -> None:
    subject = FusedInJit(nano_artifact, "nano", "float32", ROWS)
    ring = RingWindow(nano_artifact.manifest.window_length, ROWS.shape[1])
    engine = create_engine("fused", nano_artifact, ring)
    taken = np.zeros(50, dtype=np.int64)
    subject.measure(taken)
    answer = engine.push(ROWS[0])  # the step that compiled it
    for row in ROWS[:50]:
        answer = engine.push(row)
    assert answer is not None
    logits = subject._arguments[2][: answer.size].reshape(answer.shape)
    assert logits.tobytes() == answer.tobytes()


@pytest.mark.parametrize("name", ["fused", "ort-step", "ort-window"])
def test_an_engine_answers_from_the_first_timed_call(nano_artifact: Artifact, name: str) -> None:
    (subject,) = make_engine_subjects(nano_artifact, "nano", ROWS, ["float32"], engines=[name])
    assert isinstance(subject, RowSubject)
    assert subject._push(subject._advance()) is not None
