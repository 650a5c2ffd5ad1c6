"""An artifact of any size with random weights, for timing where none with trained weights ships.

What a call costs depends on the sizes alone, not on what the weights say. It goes through the same export and
the same gate as a trained model. Needs the training extra.
"""

from pathlib import Path
from typing import Final

import torch

from bench.row_tape import Rows, seeded_rows
from inference.artifact import Artifact, write_artifact
from inference.engines.ort_session import read_graph
from inference.manifest import Manifest, SchemaReference, TrainingData
from lob.schema import LOB44
from models.configurations import Block, MambaLOBConfig, Size, configuration
from models.mamba_lob import MambaLOB
from training.export import export_artifact
from training.initialisation import fit_normaliser
from training.model_manifest import model_manifest
from training.reduction import GRAPH_FORMATS, reduced_graphs

ROWS: Final = 400
WINDOW_LENGTH: Final = 100
WARMUP_ROWS: Final = 32
READOUT_DEVIATION: Final = 0.05


def export_random_model(
    directory: Path, *, size: Size, block: Block, seed: int, version: str = "0"
) -> Artifact:
    """Write an artifact with random weights to `directory` and answer it as loaded back.

    The matrices that training starts at zero are random here too, so that every part of the graph says
    something. Raises as `training.export.export_artifact`.
    """
    return export_random(directory, configuration(block=block, size=size), seed=seed, version=version)


def export_random(directory: Path, config: MambaLOBConfig, *, seed: int, version: str = "0") -> Artifact:
    """The same for any configuration, whose `size` names the model, with every shorter graph that pays."""
    rows = seeded_rows(seed, ROWS)
    model = _random_model(config, rows, seed)
    name = f"{config.size}-{config.block}-random"
    artifact = export_artifact(model, _manifest(model, name, seed, version), directory, rows).artifact
    graphs = {kind: read_graph(directory, kind, artifact.manifest)[0] for kind in artifact.manifest.graphs}
    reduced, _ = reduced_graphs(graphs, GRAPH_FORMATS)
    return write_artifact(
        directory, artifact.manifest, graphs, card=artifact.card(), reduced=reduced, replace=True
    )


def _random_model(config: MambaLOBConfig, rows: Rows, seed: int) -> MambaLOB:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        model = MambaLOB(config).eval()
        with torch.no_grad():
            for matrix in (model.head.weight, model.linear.weight):
                matrix.normal_(std=READOUT_DEVIATION)
    fit_normaliser(model, rows)
    return model


def _manifest(model: MambaLOB, name: str, seed: int, version: str) -> Manifest:
    return model_manifest(
        model,
        name=name,
        version=version,
        schema=SchemaReference(name=LOB44.name, version=LOB44.version, hash=LOB44.hash),
        sampling="top_changed",
        context="stream",
        window_length=WINDOW_LENGTH,
        warmup_rows=WARMUP_ROWS,
        temperatures=(1.0,) * len(model.config.horizons),
        training=TrainingData(files=(), rows=0, seconds=0.0, seed=seed, details={"weights": "random"}),
    )
