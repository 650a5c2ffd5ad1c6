"""Engine `fused`: the whole step of a MambaLOB as one jitted call, its weights read from `step.onnx`.

The ONNX file stays the only source of truth: at start the engine is held against `ort-step` on a probe
sequence, and refuses to serve where they differ by more than the tolerance of its number format.
"""

import copy
from typing import Self

import numba
import numpy as np
import onnxruntime as ort

from inference.artifact import Artifact
from inference.calibration import Calibration
from inference.engines.engine import Description, Logits, Row
from inference.engines.ort_step import OrtStepEngine
from inference.fused.loaded_model import LoadedModel, fused_weights, load_model
from inference.fused.model_weights import ModelWeights, check_packed, pack_weights
from inference.fused.packed_model import PackedModel
from inference.fused.probe import (
    PROBE_ROWS,
    PROBE_ROWS_WITHOUT_JIT,
    answering_every_row,
    largest_difference,
    probe_rows,
)
from inference.fused.processor import byte_products, processor_name, wide_registers
from inference.fused.step_batch import Seat, StepBatch, take_seat
from inference.fused.tick import compiled_tick
from inference.fused.weight_format import weight_format
from inference.precision import TOLERANCES
from lob.errors import ArtifactError, InputError
from lob.row_kernels import RowSequel
from lob.window import RingWindow


class FusedEngine:
    """A jitted step and one symbol's state; answers from row number `warmup_rows` of a stream on.

    A push allocates nothing, and reads the row where it lies. Where `NUMBA_DISABLE_JIT` is set the same
    kernels run as plain numpy, slowly, and the probe is short.
    """

    name = "fused"

    def __init__(self, artifact: Artifact, *, precision: str = "float32") -> None:
        """Pack the step graph's weights as `precision`, compile the step and probe it.

        Raises ArtifactError where graph or processor do not suit the kernels, the answers differ from
        `ort-step` beyond the tolerance, or a packed weight is not the graph's; InputError for an unknown
        precision.
        """
        number_format = weight_format(precision)
        weights = fused_weights(artifact)
        self._adopt(load_model(weights.sizes, precision, pack_weights(weights, number_format)), artifact)
        count = PROBE_ROWS_WITHOUT_JIT if numba.config.DISABLE_JIT else PROBE_ROWS
        self._warmup_rows = 0
        difference = self._probe(artifact, weights, count)
        check_packed(weights, number_format, self._params)
        self._warmup_rows = artifact.manifest.warmup_rows
        self._description = _describe(artifact, self._model, len(weights.graph.nodes), count, difference)

    @classmethod
    def of_packed(cls, artifact: Artifact, packed: PackedModel) -> Self:
        """An engine on weights that another one packed and checked, on this machine and by this program.

        Nothing is checked again, and no pages are chosen. Raises ArtifactError where the step does not
        compile here.
        """
        engine = cls.__new__(cls)
        model = load_model(packed.sizes, packed.precision, packed.words, choose_pages=False)
        engine._adopt(model, artifact)
        engine._description = packed.description
        return engine

    def packed(self) -> PackedModel:
        """What `of_packed` takes: the weights as they were checked, and what was found."""
        return PackedModel(
            sizes=self._model.model_sizes,
            precision=self._model.precision,
            words=self._params,
            description=self._description,
            pages=self._model.pages,
        )

    def push(self, row: Row) -> Logits | None:
        """Take one step with `row` (F,); answer logits (H, C), overwritten by the next push, or None.

        Raises InputError where `row` is not a C-contiguous, writable float32 array (F,).
        """
        try:
            taken = self._step(row, self._params, self._state, self._scratch)
        except TypeError as error:
            raise self._refusal(row) from error
        if not taken:
            raise self._refusal(row)
        return self._logits if self.count_row() else None

    def sequel(self, calibration: Calibration, *, scans: bool) -> RowSequel:
        """Takes the step with a row, and calibrates its logits, in the call that makes the row.

        Push and sequel may take turns: they share one state and give the same bits. `count_row` is to be
        called for each row that the sequel went on with; its outcomes are those of `inference.fused.tick`.
        """
        return RowSequel(
            kernel=compiled_tick(self._model.sizes, scans=scans),
            arguments=(self._params, self._state, self._scratch, *calibration.memory),
            scans=scans,
        )

    @property
    def logits(self) -> Logits:
        """(H, C) of the newest row, also of one taken by a sequel; a view, overwritten by the next."""
        return self._logits

    def batch(self) -> StepBatch:
        """A new batch for this engine and its others (`another`); compiles it where that was not done."""
        return StepBatch(self._model, horizons=self._horizons, classes=self._logits.shape[1])

    def seat(self, ring: RingWindow, calibration: Calibration) -> Seat:
        """Where a batch finds this engine's state, the rows of its `ring` and what calibrates its logits."""
        return take_seat(self._model, ring, self._state, self._scratch, calibration)

    def count_row(self) -> bool:
        """Count a row that a step was taken with; answers whether the engine is warm with it."""
        if self._rows < self._warmup_rows:
            self._rows += 1
        return self._rows >= self._warmup_rows

    def reset(self) -> None:
        """State zero, as before the first row."""
        self._state.fill(0.0)
        self._rows = 0

    def another(self, ring: RingWindow) -> Self:
        """An engine for another symbol: weights, kernel and probe are shared, state and scratch its own."""
        other = copy.copy(self)
        other._take_memory()
        return other

    def describe(self) -> Description:
        """Model, engine, graph, precision, context, processor, and how the probe went."""
        return self._description

    def _adopt(self, model: LoadedModel, artifact: Artifact) -> None:
        self._model = model
        self._step = model.step
        self._params = model.params
        self._horizons = len(artifact.manifest.horizons)
        self._warmup_rows = artifact.manifest.warmup_rows
        self._take_memory()

    def _take_memory(self) -> None:
        """A state and a scratch of this engine's own, as before the first row."""
        outputs = self._model.model_sizes.outputs
        self._state = self._model.new_state()
        self._scratch = self._model.new_scratch()
        self._logits: Logits = self._scratch[:outputs].reshape(self._horizons, -1)  # (H, C)
        self._rows = 0

    def _probe(self, artifact: Artifact, weights: ModelWeights, count: int) -> float:
        """The difference from `ort-step` over `count` rows; raises ArtifactError beyond the tolerance."""
        precision = self._model.precision
        reference = OrtStepEngine(answering_every_row(artifact))

        def push(row: Row) -> Logits:
            logits = self.push(row)
            assert logits is not None, "nothing is warmed while probing"
            return logits

        rows = probe_rows(weights, count)
        difference = largest_difference(push, self.reset, reference, rows)
        if not difference <= TOLERANCES[precision]:  # also where it is not a number
            raise ArtifactError(
                f"{weights.graph.source}: engine fused in {precision}: logits differ from "
                f"ort-step by {difference:.2e} over {count} probe rows; "
                f"at most {TOLERANCES[precision]:g} is allowed"
            )
        return difference

    def _refusal(self, row: Row) -> InputError:
        features = self._model.model_sizes.features
        return InputError(
            f"row: {row.dtype} {row.shape} with strides {row.strides} came; "
            f"allowed: C-contiguous, writable float32 ({features},)"
        )


def _describe(
    artifact: Artifact, model: LoadedModel, nodes: int, probe_rows_taken: int, difference: float
) -> Description:
    manifest = artifact.manifest
    return {
        "model": manifest.name,
        "version": manifest.version,
        "engine": FusedEngine.name,
        "graph": "step",
        "precision": model.precision,
        "context": "stream",
        "trained_context": manifest.context,
        "graph_nodes": nodes,
        "parameters": manifest.architecture.parameters,
        "threads": 1,
        "processor": processor_name(),
        "register_bits": 512 if wide_registers() else 256,
        "byte_products": byte_products(),
        "jit": "off" if numba.config.DISABLE_JIT else "on",
        "packed_bytes": model.params.nbytes,
        "pages": "as they came" if model.pages is None else "chosen",
        "probe_rows": probe_rows_taken,
        "probe_difference": f"{difference:.2e}",
        "tolerance": f"{TOLERANCES[model.precision]:g}",
        "onnxruntime": ort.__version__,
        "numba": numba.__version__,
        "numpy": np.__version__,
    }
