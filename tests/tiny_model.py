"""Models of some thousand parameters with random weights in every path, and what their artifacts say."""

from typing import Any

import torch

from inference.manifest import Manifest, SchemaReference, TrainingData
from lob.schema import LOB44
from models.configurations import Block, MambaLOBConfig
from models.mamba_lob import MambaLOB
from training.model_manifest import model_manifest

WINDOW_LENGTH = 20
WARMUP_ROWS = 5


def tiny_model(block: Block, *, layers: int, seed: int) -> MambaLOB:
    """Blocks of width 16, all weights random."""
    torch.manual_seed(seed)
    config = MambaLOBConfig(block=block, size="tiny", layers=layers, width=16, state_size=8)
    model = MambaLOB(config).eval()
    with torch.no_grad():
        for weight in (model.head.weight, model.linear.weight):  # both start at zero; let the state count
            torch.nn.init.normal_(weight, std=0.3)
    return model


def tiny_manifest(model: MambaLOB, name: str, *, details: dict[str, Any] | None = None) -> Manifest:
    """The manifest of a tiny model that serves the stream; `details` of a training that never was."""
    return model_manifest(
        model,
        name=name,
        version="1",
        schema=SchemaReference(name=LOB44.name, version=LOB44.version, hash=LOB44.hash),
        sampling="top_changed",
        context="stream",
        window_length=WINDOW_LENGTH,
        warmup_rows=WARMUP_ROWS,
        temperatures=(0.8, 1.0, 1.7),
        training=TrainingData(files=(), rows=0, seconds=0.0, seed=7, details=details or {}),
    )
