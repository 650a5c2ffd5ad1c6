"""Models with weights in every path: an untrained one answers zeros whatever it sees."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.configurations import Block, Size, configuration
from models.mamba_lob import MambaLOB

ModelMaker = Callable[..., MambaLOB]


@pytest.fixture(scope="session")
def make_model() -> ModelMaker:
    """make_model(block, size, seed=0, **changes): a shipped configuration with random heads, from a seed."""

    def make(block: Block, size: Size, seed: int = 0, **changes: Any) -> MambaLOB:
        torch.manual_seed(seed)
        model = MambaLOB(dataclasses.replace(configuration(block=block, size=size), **changes))
        for weight in (model.head.weight, model.linear.weight, model.linear_bias):
            torch.nn.init.normal_(weight, std=0.2)
        model.normaliser.set(torch.randn(model.features), torch.rand(model.features) + 0.5)
        return model

    return make
