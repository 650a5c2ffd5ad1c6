"""A model packed and checked for its fused step, as one process hands it to another."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.engines.engine import Description
from inference.fused.page_placement import ChosenPages
from inference.fused.sizes import ModelSizes


@dataclass(frozen=True, kw_only=True)
class PackedModel:
    """Sizes, weights in the order in which a kernel reads them, and what the engine that checked them says.

    `words`: (parameter_words(sizes, weight_format(precision)),) float32, beginning on a page.
    """

    sizes: ModelSizes
    precision: str
    words: npt.NDArray[np.float32]
    description: Description
    pages: ChosenPages | None = None
    """Where `words` lie on chosen pages that this process can hand on."""
