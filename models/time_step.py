"""The starting time steps of a state-space block."""

import math

import torch
from torch import Tensor

DT_MIN, DT_MAX = 1e-3, 1e-1


def initial_dt_bias(count: int) -> Tensor:
    """(count,) bias with softplus(bias) log-uniform in [1e-3, 1e-1] (Gu & Dao 2023, section 3.6)."""
    span = math.log(DT_MAX) - math.log(DT_MIN)
    dt = torch.exp(torch.rand(count) * span + math.log(DT_MIN))  # (count,)
    return dt + torch.log(-torch.expm1(-dt))  # (count,), softplus inverted
