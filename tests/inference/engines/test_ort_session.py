"""Session options that a call of microseconds needs."""

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
