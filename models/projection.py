"""A matrix stored as it is multiplied, (in, out): its ONNX graph needs neither transpose nor renaming."""

import math

import torch
from torch import Tensor, nn


class Projection(nn.Module):
    """x (..., inputs) @ weight (inputs, outputs); uniform within 1 / sqrt(inputs), as nn.Linear starts."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(inputs, outputs).uniform_(-bound, bound))  # (inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        return x @ self.weight
