"""A model ready for its jitted step: weights packed in one format, the kernel compiled for its sizes."""

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
from numba.core.errors import NumbaError

from inference.artifact import Artifact
from inference.engines.ort_session import read_graph
from inference.fused.compiled_step import Step, compiled_step
from inference.fused.model_weights import ModelWeights, model_weights
from inference.fused.packing import aligned_words
from inference.fused.page_placement import ChosenPages, place_pages
from inference.fused.processor import unsupported_reason
from inference.fused.sizes import KernelSizes, ModelSizes, kernel_sizes
from inference.fused.weight_format import weight_format
from inference.onnx_weights import read_weights
from lob.errors import ArtifactError

Words = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """What all symbols of one model share; a symbol's own are a state and a scratch."""

    model_sizes: ModelSizes
    precision: str
    sizes: KernelSizes
    params: Words
    pages: ChosenPages | None
    """Where `params` lie on pages that were chosen here; None for those that another process chose, too."""
    step: Step

    def new_state(self) -> Words:
        """The state before the first row, all zero."""
        return aligned_words(self.sizes.layers * self.sizes.layer_state_words)

    def new_scratch(self) -> Words:
        """Room for one step; its first words are the logits afterwards."""
        return aligned_words(self.sizes.offsets.words)


def fused_weights(artifact: Artifact) -> ModelWeights:
    """The weights in the step graph of `artifact`.

    Raises ArtifactError where it has no step graph, the graph is no MambaLOB, or its sizes or this processor
    are not what the kernels are made for.
    """
    reason = unsupported_reason()
    if reason:
        raise ArtifactError(f"engine fused: {reason}")
    model, source = read_graph(artifact.directory, "step", artifact.manifest)
    weights = model_weights(read_weights(model, source))
    manifest = artifact.manifest
    for name, came, allowed in (
        ("features", weights.sizes.features, artifact.schema.feature_count),
        ("outputs", weights.sizes.outputs, len(manifest.horizons) * len(manifest.classes)),
    ):
        if came != allowed:
            raise ArtifactError(f"{source}: {name}: {came} came, the manifest allows {allowed}")
    return weights


def load_model(
    model_sizes: ModelSizes, precision: str, packed: Words, *, choose_pages: bool = True
) -> LoadedModel:
    """The model of these sizes with the weights `packed` as `precision`; its step compiled and called once.

    `packed` begin on a page; with `choose_pages` they are copied to others where that helps, which takes some
    0.3 s. Raises ArtifactError where the kernel does not compile here, InputError for an unknown precision.
    """
    sizes = kernel_sizes(model_sizes, weight_format(precision))
    step = compiled_step(sizes)
    pages = place_pages(packed) if choose_pages else None
    loaded = LoadedModel(
        model_sizes=model_sizes,
        precision=precision,
        sizes=sizes,
        params=packed if pages is None else pages.words,
        pages=pages,
        step=step,
    )
    row = np.zeros(sizes.features, np.float32)
    try:
        step(row, loaded.params, loaded.new_state(), loaded.new_scratch())
    except (NumbaError, RuntimeError) as error:
        raise ArtifactError(
            f"engine fused: Numba {numba.__version__} does not compile its kernel here: {error}"
        ) from error
    if not numba.config.DISABLE_JIT:
        # A row of another type is an error from here on, not seconds of compiling between two ticks.
        step.disable_compile()  # type: ignore[attr-defined]  # a dispatcher, which Numba does not annotate
    return loaded
