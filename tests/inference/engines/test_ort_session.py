"""Session options that a call of microseconds needs."""

import os
import subprocess
import sys
from pathlib import Path

import onnxruntime as ort
import pytest

from inference.artifact import Artifact
from inference.engines.ort_session import open_graph, session_options
from inference.manifest import GraphKind


@pytest.mark.parametrize("kind", ["step", "window"])
def test_one_thread_in_order_without_spinning(kind: GraphKind) -> None:
    options = session_options(kind)
    assert options.intra_op_num_threads == options.inter_op_num_threads == 1
    assert options.execution_mode == ort.ExecutionMode.ORT_SEQUENTIAL
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("session.inter_op.allow_spinning") == "0"
    assert not options.enable_profiling


def test_runs_on_the_cpu_alone(artifact: Artifact) -> None:
    opened = open_graph(artifact.directory, "step", artifact.manifest, 44)
    assert opened.session.get_providers() == ["CPUExecutionProvider"]
    assert opened.kind == "step"


@pytest.mark.parametrize("module", ["inference.engines.ort_session", "inference.doctor", "training.parity"])
def test_onnxruntime_reports_nothing_to_its_maker(module: str, tmp_path: Path) -> None:
    """Its telemetry begins at the import, with a device identifier in the user's cache and a thread."""
    off_by_itself = {"ORT_DISABLE_TELEMETRY", "CI", "TF_BUILD", "GITHUB_ACTIONS"}
    environment = {name: value for name, value in os.environ.items() if name not in off_by_itself}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", f"import {module}"], env=environment, check=True, timeout=120)
    assert not list(tmp_path.rglob("*onnxruntime*"))
