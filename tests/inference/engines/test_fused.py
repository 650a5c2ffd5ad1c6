"""`fused` against `ort-step` on the same rows, its own promises, and what it refuses."""

import dataclasses
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from numba.core import config
from onnx import numpy_helper

from inference.artifact import Artifact, load_artifact
from inference.engines import fused
from inference.engines.fused import FusedEngine
from inference.engines.ort_step import OrtStepEngine
from inference.fused.loaded_model import load_model
from inference.precision import TOLERANCES
from lob.errors import ArtifactError, InputError
from lob.window import RingWindow

Rows = npt.NDArray[np.float32]

IN_PROJECTION = 2 * 48 + 48 * 16
"""Words of `tiny` before its first layer: the normaliser and the embedding, 44 features padded to 48."""

needs_compilation = pytest.mark.skipif(config.DISABLE_JIT, reason="NUMBA_DISABLE_JIT is set")


@pytest.fixture(scope="module")
def rows() -> Rows:
    return np.random.default_rng(3).normal(scale=2.0, size=(60, 44)).astype(np.float32)  # (T, F)


@pytest.fixture(scope="module", params=["ssd", "s6"])
def model(request: pytest.FixtureRequest, artifact: Artifact, s6_artifact: Artifact) -> Artifact:
    return artifact if request.param == "ssd" else s6_artifact


@pytest.fixture
def engine(model: Artifact) -> FusedEngine:
    return FusedEngine(model)


def answers(engine: FusedEngine | OrtStepEngine, rows: Rows) -> list[Rows | None]:
    """A copy of what each push answered."""
    pushed = (engine.push(row) for row in rows)
    return [None if answer is None else answer.copy() for answer in pushed]


def largest(came: list[Rows | None], wanted: list[Rows | None]) -> float:
    assert [answer is None for answer in came] == [answer is None for answer in wanted]
    both = zip(came, wanted, strict=True)
    return max(float(np.abs(a - b).max()) for a, b in both if a is not None and b is not None)


def test_equals_ort_step(model: Artifact, engine: FusedEngine, rows: Rows) -> None:
    reference = OrtStepEngine(model)
    for _ in range(2):
        came, wanted = answers(engine, rows), answers(reference, rows)
        assert came[: model.manifest.warmup_rows - 1] == [None] * (model.manifest.warmup_rows - 1)
        assert came[-1] is not None
        assert came[-1].shape == (3, 3)
        assert 0 < largest(came, wanted) < 1e-5  # not the same code, nearly the same numbers
        engine.reset()
        reference.reset()


@pytest.mark.parametrize("precision", ["bfloat16", "int16", "int8"])
def test_reduced_formats_stay_within_their_tolerance(artifact: Artifact, rows: Rows, precision: str) -> None:
    engine = FusedEngine(artifact, precision=precision)
    difference = largest(answers(engine, rows), answers(OrtStepEngine(artifact), rows))
    assert 1e-6 < difference < TOLERANCES[precision]
    described = engine.describe()
    assert described["precision"] == precision
    assert float(described["tolerance"]) == TOLERANCES[precision]
    assert int(described["packed_bytes"]) < int(FusedEngine(artifact).describe()["packed_bytes"])


def test_the_state_counts(engine: FusedEngine, rows: Rows) -> None:
    first = answers(engine, rows)[-1]
    engine.reset()
    second = answers(engine, np.concatenate([-rows[:-1], rows[-1:]]))[-1]
    assert first is not None
    assert second is not None
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("pushed_before", [1, 2, 17])
def test_reset_starts_from_nothing_bit_for_bit(engine: FusedEngine, rows: Rows, pushed_before: int) -> None:
    expected = answers(engine, rows)
    for row in rows[:pushed_before]:
        engine.push(row)
    engine.reset()
    came = answers(engine, rows)
    assert largest(came, expected) == 0


def test_two_engines_of_one_model_do_not_meet(model: Artifact, rows: Rows) -> None:
    alone, one, other = (FusedEngine(model) for _ in range(3))
    expected = answers(alone, rows)
    came = []
    for row in rows:
        came += answers(one, row[None])
        other.push(-row)
    assert largest(came, expected) == 0


def test_the_row_is_read_where_it_lies_in_the_ring(engine: FusedEngine, rows: Rows) -> None:
    ring = RingWindow(20, 44)
    expected = answers(engine, rows)
    engine.reset()
    came = []
    for row in rows:
        ring.append(row)
        came += answers(engine, ring.latest()[None])
        assert ring.latest().tobytes() == row.tobytes()
    assert largest(came, expected) == 0


def test_the_answer_is_overwritten_by_the_next_push(engine: FusedEngine, rows: Rows) -> None:
    last, one_before = [engine.push(row) for row in rows[:10]][-2:]
    assert last is not None
    assert one_before is not None
    assert np.shares_memory(last, one_before)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_values_that_are_not_finite_come_out_and_reset_heals(
    artifact: Artifact, rows: Rows, precision: str
) -> None:
    engine = FusedEngine(artifact, precision=precision)
    expected = answers(engine, rows)
    for poisoned in (0, 12, 43):
        engine.reset()
        engine.push(rows[0])
        row = rows[0].copy()
        row[poisoned] = np.nan
        engine.push(row)
        sick = answers(engine, rows[1:])[-1]
        assert sick is not None
        assert np.isnan(sick).all()
        engine.reset()
        assert largest(answers(engine, rows), expected) == 0


def test_a_push_allocates_nothing_that_stays(engine: FusedEngine, rows: Rows) -> None:
    answers(engine, rows)
    tracemalloc.start()
    try:
        for row in rows[:20]:
            engine.push(row)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(5):
            for row in rows:
                engine.push(row)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2_000


def test_a_row_of_another_length_is_refused(engine: FusedEngine) -> None:
    for features in (0, 43, 45):
        with pytest.raises(InputError, match=rf"row: float32 \({features},\) .* allowed: .* float32 \(44,\)"):
            engine.push(np.zeros(features, np.float32))


@needs_compilation
def test_a_row_of_another_kind_is_refused(engine: FusedEngine) -> None:
    """Compiling for it would take seconds between two ticks."""
    read_only = np.zeros(44, np.float32)
    read_only.setflags(write=False)
    refused: tuple[Any, ...] = (
        np.zeros(44),
        np.zeros(88, np.float32)[::2],
        read_only,
        np.zeros((1, 44), np.float32),
    )
    for row in refused:
        with pytest.raises(InputError, match=r"row: .* came; allowed: C-contiguous, writable float32"):
            engine.push(row)


def test_describes_itself(model: Artifact, engine: FusedEngine) -> None:
    described = engine.describe()
    assert (described["model"], described["engine"], described["graph"]) == (model.name, "fused", "step")
    assert described["precision"] == "float32"
    assert described["context"] == described["trained_context"] == "stream"
    assert int(described["graph_nodes"]) == OrtStepEngine(model).describe()["graph_nodes"]
    assert 0 < float(described["probe_difference"]) < 1e-5


class TestProbe:
    @pytest.mark.parametrize("precision", ["float32", "bfloat16", "int16", "int8"])
    def test_a_packed_weight_gone_wrong_is_refused(
        self, artifact: Artifact, precision: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One bias of the logits: a reduced format is held to its tolerance, so the change is large."""

        def flipped(*arguments: Any) -> Any:
            loaded = load_model(*arguments)
            loaded.params[-16] += 2 * TOLERANCES[precision] * 10
            return loaded

        monkeypatch.setattr(fused, "load_model", flipped)
        with pytest.raises(
            ArtifactError, match=rf"engine fused in {precision}: logits differ from ort-step by \d\.\d+e"
        ):
            FusedEngine(artifact, precision=precision)

    @pytest.mark.parametrize("bit", [0, 7, 12, 20, 31])
    @pytest.mark.parametrize("precision", ["float32", "bfloat16", "int16", "int8"])
    def test_one_bit_of_a_packed_weight_gone_wrong_is_refused(
        self, artifact: Artifact, precision: str, bit: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The lowest bits, too, which no answer within a tolerance shows."""
        for place in (0, 40, 80):

            def flipped(*arguments: Any, place: int = place) -> Any:
                loaded = load_model(*arguments)
                words = loaded.params.view(np.uint32)
                words[IN_PROJECTION + place] ^= np.uint32(1 << bit)
                return loaded

            monkeypatch.setattr(fused, "load_model", flipped)
            with pytest.raises(
                ArtifactError,
                match=r"logits differ from ort-step|part 3 of its packed weights does not stand",
            ):
                FusedEngine(artifact, precision=precision)

    @needs_compilation  # a probe without the jit is too short for the smallest of these
    @pytest.mark.parametrize(
        "name",
        [
            "embedding.weight",
            "norm_weight",
            "head.weight",
            "linear.weight.pad",
            "layers.0.norm_weight",
            "layers.0.block.in_proj.weight",
            "layers.0.block.conv_weight",
            "layers.0.block.conv_bias",
            "layers.0.block.A_log.exp.neg",
            "layers.0.block.dt_bias",
            "layers.0.block.out_proj.weight",
            "normaliser.inverse_scale",
        ],
    )
    def test_one_flipped_weight_of_the_graph_is_refused(
        self, model: Artifact, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The sign of one number, in the file that only `fused` reads; the middle one of those not 0."""
        directory, graph = _with_flipped_sign(model, name)
        monkeypatch.setattr("inference.fused.loaded_model.read_graph", lambda *_: (graph, str(directory)))
        with pytest.raises(ArtifactError, match="logits differ from ort-step by"):
            FusedEngine(model)

    def test_answers_that_are_not_finite_are_refused(
        self, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def poisoned(*arguments: Any) -> Any:
            loaded = load_model(*arguments)
            loaded.params[-16] = np.nan
            return loaded

        monkeypatch.setattr(fused, "load_model", poisoned)
        with pytest.raises(ArtifactError, match="differ from ort-step by nan"):
            FusedEngine(artifact)

    def test_a_long_warm_up_does_not_silence_it(
        self, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        late = dataclasses.replace(
            artifact, manifest=msgspec.structs.replace(artifact.manifest, warmup_rows=10_000)
        )
        assert FusedEngine(late).push(np.zeros(44, np.float32)) is None
        monkeypatch.setitem(TOLERANCES, "float32", 1e-12)
        with pytest.raises(ArtifactError, match="at most 1e-12 is allowed"):
            FusedEngine(late)


def test_a_graph_altered_after_loading_is_refused(write_variant: Callable[..., Path]) -> None:
    directory = write_variant(name="tiny")
    artifact = load_artifact(directory)
    content = bytearray((directory / "step.onnx").read_bytes())
    content[len(content) // 2] ^= 0x40
    (directory / "step.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match="the file was altered after the artifact was loaded"):
        FusedEngine(artifact)


def _with_flipped_sign(artifact: Artifact, name: str) -> tuple[Path, bytes]:
    graph = onnx.load_from_string((artifact.directory / "step.onnx").read_bytes())
    (tensor,) = (tensor for tensor in graph.graph.initializer if tensor.name.startswith(name))
    values = numpy_helper.to_array(tensor).copy()
    weighs = np.argwhere(values)  # the linear path's matrix is 0 but for a few rows
    middle = tuple(weighs[len(weighs) // 2])
    values[middle] *= -1
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return artifact.directory, graph.SerializeToString()
