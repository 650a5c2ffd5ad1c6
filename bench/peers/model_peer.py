"""The models that engines are held against, made ready to be timed on the rows that the engines get.

Every peer gets the fastest call that our own engines of onnxruntime have: one thread, memory bound once, a
state that takes turns between two places. Two are the exception, because how they are called is what they
show: `reference-export` is called as its authors do, `run` with a dictionary, and `torch-eager` is PyTorch.
Before a peer is timed its answers are held against its PyTorch model's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, nn

from bench.peers import bin_ctabl, deeplob, lstm_a, reference_mamba
from bench.peers.model_export import OPSET, export_traced
from bench.peers.peer_calls import BoundStepCall, BoundWindowCall, DictionaryCall, EagerCall
from bench.row_subject import RowSubject
from bench.row_tape import Rows, in_columns
from inference.engines.ort_session import new_session
from inference.manifest import GraphKind
from lob.errors import ArtifactError
from lob.window import RingWindow

TOLERANCE: Final = 1e-4
"""The largest difference between a peer in onnxruntime and its PyTorch model."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A peer to time, and what was found of it while it was made."""

    subject: RowSubject
    note: str


class _Call(Protocol):
    def push(self, row: Rows) -> Rows: ...


def make_peers(
    rows: Rows, directory: Path, *, seed: int, layers: int = 4, window: int = reference_mamba.WINDOW
) -> list[Peer]:
    """Every peer with random weights from `seed`, its graph written to `directory`.

    `layers` and `window` are the reference architecture's: its graph at full size takes ten seconds to write
    and more to load. Raises ArtifactError where a graph does not answer as its model.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        reference = reference_mamba.ReferenceMamba(layers=layers).eval()
        lstm = lstm_a.LSTMA().eval()
        convolutional = deeplob.DeepLOB().eval()
        bilinear = bin_ctabl.BiNCTABL().eval()
    return [
        _reference_export(reference, rows, directory, window),
        _torch_eager(reference, rows, window),
        _bound_window("lstm-a-window", "lstm-a", lstm, rows, directory, (lstm_a.WINDOW, lstm_a.FEATURES)),
        _lstm_step(lstm, rows, directory),
        _bound_window(
            "deeplob", "deeplob", convolutional, rows, directory, (deeplob.WINDOW, deeplob.FEATURES)
        ),
        _bound_window(
            "bin-ctabl", "bin-ctabl", bilinear, rows, directory, (bin_ctabl.WINDOW, bin_ctabl.FEATURES)
        ),
    ]


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """PyTorch on one thread, as every other subject; what was set comes back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _reference_export(model: nn.Module, rows: Rows, directory: Path, length: int) -> Peer:
    name, features = "reference-export", reference_mamba.FEATURES
    path = directory / f"{name}.onnx"
    example = (torch.zeros(1, length, features),)
    nodes = export_traced(model, example, path, inputs=["input"], outputs=["output"], dynamic_batch=True)
    ring = _full_ring(rows, length, features)
    call = DictionaryCall(_session(path, "window"), ring)
    checked = _check(name, call, model, ring)
    return _peer(
        name,
        "reference",
        f"onnxruntime, session.run(names, dictionary) on a window of {length} rows, one thread",
        call,
        ring,
        rows,
        f"{name}: {_parameters(model):,} parameters, {nodes:,} nodes, opset {OPSET}, {checked}",
    )


def _torch_eager(model: nn.Module, rows: Rows, length: int) -> Peer:
    ring = RingWindow(length, reference_mamba.FEATURES)
    return _peer(
        "torch-eager",
        "reference",
        f"PyTorch, model(window of {length} rows) in inference_mode, one thread",
        EagerCall(model, ring),
        ring,
        rows,
        f"torch-eager: the weights of reference-export in torch {torch.__version__}",
    )


def _bound_window(
    name: str, label: str, model: nn.Module, rows: Rows, directory: Path, shape: tuple[int, int]
) -> Peer:
    length, features = shape
    path = directory / f"{name}.onnx"
    nodes = export_traced(model, (torch.zeros(1, *shape),), path, inputs=["window"], outputs=["answer"])
    ring = _full_ring(rows, length, features)
    call = BoundWindowCall(_session(path, "window"), ring)
    checked = _check(name, call, model, ring)
    return _peer(
        name,
        label,
        f"onnxruntime, a bound call on a window of {length} x {features}, one thread",
        call,
        ring,
        rows,
        f"{name}: {_parameters(model):,} parameters, {nodes} nodes, opset {OPSET}, {checked}",
    )


def _lstm_step(model: lstm_a.LSTMA, rows: Rows, directory: Path) -> Peer:
    name, features, states = "lstm-a-step", lstm_a.FEATURES, lstm_a.STATE
    path = directory / f"{name}.onnx"
    nodes = export_traced(
        lstm_a.LSTMAStep(model),
        (torch.zeros(1, 1, features), *lstm_a.initial_state()),
        path,
        inputs=["row", *(f"{state}_in" for state in states)],
        outputs=["answer", *(f"{state}_out" for state in states)],
    )
    call = BoundStepCall(_session(path, "step"), features, states, lstm_a.UNITS)
    ring = _full_ring(rows, lstm_a.WINDOW, features)
    for row in ring.window()[:-1]:
        call.push(row)
    checked = _check(name, call, model, ring)
    call.reset()
    return _peer(
        name,
        "lstm-a",
        "onnxruntime, a bound call on one row, state in and out, one thread",
        call,
        ring,
        rows,
        f"{name}: {_parameters(model):,} parameters, {nodes} nodes, opset {OPSET}, {checked}",
    )


def _peer(name: str, label: str, method: str, call: _Call, ring: RingWindow, rows: Rows, note: str) -> Peer:
    subject = RowSubject(
        name=name,
        model=label,
        precision="float32",
        method=method,
        push=call.push,
        ring=ring,
        rows=in_columns(rows, ring.feature_count),
    )
    return Peer(subject=subject, note=note)


def _full_ring(rows: Rows, length: int, features: int) -> RingWindow:
    """A ring that holds the first `length` of the rows."""
    ring = RingWindow(length, features)
    for row in in_columns(rows[:length], features):
        ring.append(row)
    return ring


def _session(path: Path, kind: GraphKind) -> ort.InferenceSession:
    return new_session(path.read_bytes(), kind, str(path))


def _check(name: str, call: _Call, model: nn.Module, ring: RingWindow) -> str:
    """That onnxruntime's answer to the newest row is PyTorch's on the window, said for the report."""
    came = call.push(ring.latest())
    with torch.inference_mode():
        expected: Tensor = model(torch.from_numpy(ring.window()).unsqueeze(0))
    difference = float(np.abs(came - expected.numpy()).max())
    if not difference <= TOLERANCE:  # also where it is not a number
        raise ArtifactError(
            f"{name}: onnxruntime's answer differs from PyTorch's by {difference:.2e}; "
            f"at most {TOLERANCE:g} is allowed"
        )
    return f"within {TOLERANCE:g} of PyTorch"


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
