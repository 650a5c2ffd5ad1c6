"""The engine in processes of its own: kernels kept on disk, other processors, and no compiler at all."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import config

from inference.artifact import Artifact
from inference.engines.fused import FusedEngine
from inference.fused import processor
from inference.precision import TOLERANCES

REPOSITORY = Path(__file__).resolve().parents[3]

PROGRAM = """
import json
import sys
from pathlib import Path

import numpy as np

from inference.artifact import load_artifact
from inference.calibration import Calibration
from inference.engines.fused import FusedEngine
from inference.fused.compiled_step import compiled_steps, model_step
from inference.fused.lanes import Words
from inference.fused.tick import compiled_ticks
from lob.instrument import Instrument
from lob.kernel import kernel
from lob.rows import RowPath
from lob.venues import make_decoder

artifact = load_artifact(Path(sys.argv[1]))
rows = np.random.default_rng(3).normal(scale=2.0, size=(60, 44)).astype(np.float32)
told = {"logits": {}, "description": {}}
for precision in sys.argv[2].split(","):
    engine = FusedEngine(artifact, precision=precision)
    told["logits"][precision] = [engine.push(row).tolist() for row in rows if engine.push(row) is not None]
    told["description"][precision] = dict(engine.describe())
steps = compiled_steps()
if "tick" in sys.argv:
    SIZES = engine._model.sizes

    @kernel
    def tick(row: Words, params: Words, state: Words, scratch: Words) -> float:
        model_step(row, params, state, scratch, SIZES)
        return scratch[0]

    tick(rows[0], engine._params, engine._state, engine._scratch)
    steps.append(tick)
    for venue in ("bybit", "binance"):
        path = RowPath(make_decoder(venue), Instrument(symbol="BTCUSDT", tick_size="0.1"))
        path.go_on_with(engine.sequel(Calibration((1.0, 1.0, 1.0), 3), scans=path.scans))
    steps += compiled_ticks()
told["hits"] = [sum(step.stats.cache_hits.values()) for step in steps if hasattr(step, "stats")]
told["misses"] = [sum(step.stats.cache_misses.values()) for step in steps if hasattr(step, "stats")]
print(json.dumps(told))
"""

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(artifact: Artifact, tmp_path: Path) -> Run:
    """Run PROGRAM on `tiny` with some precisions and environment variables; answer what it told."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    def start(precisions: str, *arguments: str, **variables: str) -> dict[str, Any]:
        came = subprocess.run(
            [sys.executable, str(program), str(artifact.directory), precisions, *arguments],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert came.returncode == 0, came.stderr
        told: dict[str, Any] = json.loads(came.stdout)
        return told

    return start


def here(artifact: Artifact, precision: str) -> Any:
    """What this process answers to the same rows."""
    engine = FusedEngine(artifact, precision=precision)
    rows = np.random.default_rng(3).normal(scale=2.0, size=(60, 44)).astype(np.float32)
    answers = []
    for row in rows:
        if engine.push(row) is not None:
            again = engine.push(row)
            assert again is not None
            answers.append(again.tolist())
    return answers


@pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled: NUMBA_DISABLE_JIT is set")
def test_a_second_process_compiles_nothing(run: Run, tmp_path: Path) -> None:
    """Neither the step, nor the two ticks, nor a kernel of another file that has the step compiled in."""
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    first = run("float32", "tick", **cache)
    assert (first["hits"], first["misses"]) == ([0] * 4, [1] * 4)
    second = run("float32", "tick", **cache)
    assert (second["hits"], second["misses"]) == ([1] * 4, [0] * 4)
    assert second["logits"] == first["logits"]


AVX2 = "+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+cx16,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+movbe"


@pytest.mark.skipif(
    config.DISABLE_JIT or not {"avx2", "fma"} <= processor.features(), reason="no AVX2 to compile for"
)
class TestProcessorWithoutAVX512:
    def test_answers_the_same_to_rounding(self, run: Run, artifact: Artifact) -> None:
        told = run("float32,int8", NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES=AVX2)
        for precision, logits in told["logits"].items():
            described = told["description"][precision]
            assert (described["register_bits"], described["byte_products"]) == (256, "portable")
            assert described["processor"] == "haswell"
            difference = np.abs(np.array(logits) - np.array(here(artifact, precision))).max()
            # A byte may round the other way where its input differs in the last bit.
            assert difference < (2e-6 if precision == "float32" else TOLERANCES["int8"] / 5)

    @pytest.mark.skipif("avxvnni" not in processor.features(), reason="no AVX-VNNI to run")
    def test_byte_products_give_the_same_bits_with_and_without_instructions_for_them(self, run: Run) -> None:
        portable = run("int8", NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES=AVX2)
        direct = run("int8", NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES=f"{AVX2},+avxvnni")
        assert portable["description"]["int8"]["byte_products"] == "portable"
        assert direct["description"]["int8"]["byte_products"] == "vpdpbusd-256"
        assert portable["logits"] == direct["logits"]


def test_without_the_compiler_the_same_kernels_run_as_numpy(run: Run, artifact: Artifact) -> None:
    told = run("float32,int16", NUMBA_DISABLE_JIT="1")
    for precision, logits in told["logits"].items():
        assert told["description"][precision]["jit"] == "off"
        difference = np.abs(np.array(logits) - np.array(here(artifact, precision))).max()
        assert difference < 5e-6
