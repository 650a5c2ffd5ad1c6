"""The models that engines are timed with: our sizes and blocks with random weights, one seed for all.

What a call takes depends on the sizes alone, and with trained weights only some sizes would be there. Needs
the training extra.
"""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from bench.engine_ratios import LSTM_SIZE
from bench.engine_subjects import make_engine_subjects
from bench.harness import Subject
from bench.random_model import export_random
from bench.row_tape import Rows
from bench.weights import Block, Size
from models.configurations import MambaLOBConfig, configuration

LIKE_LSTM_A = MambaLOBConfig(
    block="ssd", size=LSTM_SIZE.removesuffix("-ssd"), layers=2, width=112, state_size=16
)
"""Two layers as LSTM_A has, and with 168,622 parameters somewhat more than its 161,000."""


def make_model_subjects(
    sizes: Sequence[Size],
    blocks: Sequence[Block],
    precisions: Sequence[str],
    rows: Rows,
    directory: Path,
    *,
    seed: int,
    like_lstm_a: bool,
) -> tuple[list[Subject], list[str]]:
    """Every engine on every size and block, and what is to be said of the models.

    `like_lstm_a`: also `fused` on a model of LSTM_A's size. Graphs are written to `directory`. Raises as
    export and engines do.
    """
    configurations = [configuration(block=block, size=size) for size in sizes for block in blocks]
    subjects: list[Subject] = []
    notes: list[str] = []
    for config in [*configurations, *([LIKE_LSTM_A] if like_lstm_a else [])]:
        label = f"{config.size}-{config.block}"
        with redirect_stdout(sys.stderr):  # standard output is the report's alone
            artifact = export_random(directory / label, config, seed=seed)
        subjects += make_engine_subjects(
            artifact,
            label,
            rows,
            precisions,
            engines=["fused"] if config is LIKE_LSTM_A else None,
            in_jit=config.size == "nano",
        )
        notes.append(f"{label}: {artifact.manifest.architecture.parameters:,} parameters, random weights")
    return subjects, notes
