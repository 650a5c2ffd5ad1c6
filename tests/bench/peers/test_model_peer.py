"""Peers as they are timed: graphs that answer as their models on every row, of a size exported quickly."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from bench.peers import lstm_a, model_peer, reference_mamba
from bench.peers.model_export import export_traced
from bench.peers.peer_calls import BoundStepCall, BoundWindowCall
from bench.row_tape import in_columns, seeded_rows
from inference.engines.ort_session import new_session
from lob.errors import ArtifactError
from lob.window import RingWindow

NAMES = ["reference-export", "torch-eager", "lstm-a-window", "lstm-a-step", "deeplob", "bin-ctabl"]
ROWS = seeded_rows(3, 150)


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> list[model_peer.Peer]:
    return model_peer.make_peers(ROWS, tmp_path_factory.mktemp("peers"), seed=1, layers=1, window=5)


def test_every_peer_is_made_and_told_of(peers: list[model_peer.Peer]) -> None:
    assert [peer.subject.name for peer in peers] == NAMES
    assert all(peer.note.startswith(peer.subject.name) for peer in peers)
    assert all("of PyTorch" in peer.note for peer in peers if peer.subject.name != "torch-eager")
    assert {peer.subject.precision for peer in peers} == {"float32"}


@pytest.mark.parametrize("name", NAMES)
def test_a_peer_is_timed(peers: list[model_peer.Peer], name: str) -> None:
    (subject,) = (peer.subject for peer in peers if peer.subject.name == name)
    durations_ns = np.zeros(7, dtype=np.int64)
    subject.measure(durations_ns)
    assert durations_ns.min() > 0


def test_reference_export_and_eager_answer_alike(peers: list[model_peer.Peer]) -> None:
    exported, eager = (
        next(peer.subject for peer in peers if peer.subject.name == name)
        for name in ("reference-export", "torch-eager")
    )
    fresh = [RingWindow(5, 40), RingWindow(5, 40)]
    for subject, ring in zip((exported, eager), fresh, strict=True):
        push: Any = subject._push
        push.__self__._ring = ring  # both on the same rows, whatever was timed before
    for row in in_columns(ROWS[20:40], 40):
        answers: list[Any] = []
        for subject, ring in zip((exported, eager), fresh, strict=True):
            ring.append(row)
            answers.append(subject._push(ring.latest()))
        np.testing.assert_allclose(answers[0], answers[1], atol=1e-5)


def test_the_reference_graph_is_unrolled(tmp_path: Path) -> None:
    model = reference_mamba.ReferenceMamba(layers=1)
    nodes = [
        export_traced(
            model,
            (torch.zeros(1, length, 40),),
            tmp_path / f"{length}.onnx",
            inputs=["input"],
            outputs=["output"],
            dynamic_batch=True,
        )
        for length in (4, 8, 12)
    ]
    assert nodes[2] - nodes[1] == nodes[1] - nodes[0] == 4 * 18  # each row of a layer has its own nodes
    graph = onnx.load(tmp_path / "4.onnx")
    assert [entry.version for entry in graph.opset_import] == [17]
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_bound_windows_follow_the_ring(tmp_path: Path) -> None:
    model = lstm_a.LSTMA().eval()
    path = tmp_path / "window.onnx"
    export_traced(model, (torch.zeros(1, 50, 100),), path, inputs=["window"], outputs=["answer"])
    ring = RingWindow(50, 100)
    call = BoundWindowCall(new_session(path.read_bytes(), "window", str(path)), ring)
    for row in in_columns(ROWS, 100):
        ring.append(row)
        answer = call.push(ring.latest())
        if ring.count == 50 and ring.position % 7 == 0:
            with torch.inference_mode():
                expected = model(torch.from_numpy(ring.window())[None])
            np.testing.assert_allclose(answer, expected, atol=1e-5)


def test_the_bound_step_carries_its_state_and_starts_anew(tmp_path: Path) -> None:
    model = lstm_a.LSTMA().eval()
    path = tmp_path / "step.onnx"
    names = lstm_a.STATE
    export_traced(
        lstm_a.LSTMAStep(model),
        (torch.zeros(1, 1, 100), *lstm_a.initial_state()),
        path,
        inputs=["row", *(f"{name}_in" for name in names)],
        outputs=["answer", *(f"{name}_out" for name in names)],
    )
    call = BoundStepCall(new_session(path.read_bytes(), "step", str(path)), 100, names, lstm_a.UNITS)
    rows = in_columns(ROWS, 100)
    for length in (1, 2, 33):
        call.reset()
        for row in rows[:length]:
            answer = call.push(row)
        with torch.inference_mode():
            expected = model(torch.from_numpy(rows[None, :length]))
        np.testing.assert_allclose(answer, expected, atol=1e-5)


def test_a_graph_that_answers_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(model: torch.nn.Module, *arguments: Any, **options: Any) -> int:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05)
        try:
            return export_traced(model, *arguments, **options)
        finally:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.sub_(0.05)

    monkeypatch.setattr(model_peer, "export_traced", spoilt)
    with pytest.raises(ArtifactError, match="reference-export: onnxruntime's answer differs from PyTorch's"):
        model_peer.make_peers(ROWS, tmp_path, seed=1, layers=1, window=5)


def test_torch_gets_its_threads_back() -> None:
    before = torch.get_num_threads()
    with model_peer.one_torch_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
