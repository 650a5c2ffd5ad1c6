"""A causal model to its two ONNX graphs: one row at a time with the state in and out, and a whole window.

`torch.onnx` traces the one model; its scan and convolution put down onnxruntime's own operators while it does
(`models.operators`). What follows keeps the file as small as the mathematics: constants are folded, weights
keep the names they have in the model, and nothing of this machine or run is left in it.
"""

import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import onnx
import onnx_ir
import onnxscript.optimizer
import torch
from onnx_ir.passes import Sequential
from onnx_ir.passes import common as passes
from torch import Tensor, nn

from inference.graph_interface import LOGITS, ROW, WINDOW
from inference.manifest import GraphKind
from models.causal_model import CausalModel
from training.scan_lowering import lower_scans

OPSET = 23
PREFIX = "model."
LARGEST_FOLDED = 1 << 24  # bytes of a constant that is computed now rather than at every start
FIRST_ALONE = frozenset({"SkipSimplifiedLayerNormalization"})
"""Operators of onnxruntime's own domain whose outputs after the first need not be written."""


class _Step(nn.Module):
    """`CausalModel.step` as a module of its own, which is what `torch.onnx` takes."""

    def __init__(self, model: CausalModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, row: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return self.model.step(row, *state)


class _Window(nn.Module):
    """`CausalModel.forward_last` as a module of its own."""

    def __init__(self, model: CausalModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, window: Tensor) -> Tensor:
        return self.model.forward_last(window)


def graph_bytes(
    model: CausalModel, window_length: int, metadata: Mapping[str, str]
) -> dict[GraphKind, bytes]:
    """Both graphs as the bytes of an ONNX file; the same weights and metadata give the same bytes.

    step: `row` (1, F) and `<name>_in` -> `logits` (1, H, C) and `<name>_out`, the names as `state_names`.
    window: `window` (batch, time, F) -> `logits` (batch, H, C) of the last row; traced at `window_length`
    rows, and neither axis is fixed.
    """
    graphs: dict[GraphKind, onnx.ModelProto] = {
        "step": step_graph(model),
        "window": window_graph(model, window_length),
    }
    for graph in graphs.values():
        for key, value in sorted(metadata.items()):
            graph.metadata_props.add(key=key, value=value)
    return {kind: graph.SerializeToString(deterministic=True) for kind, graph in graphs.items()}


def step_graph(model: CausalModel) -> onnx.ModelProto:
    """One row in, logits out, the state handed in and out."""
    names = model.state_names()
    return _traced(
        _Step(model),
        (torch.zeros(1, model.features), model.initial_state(1)),
        inputs=[ROW, *(f"{name}_in" for name in names)],
        outputs=[LOGITS, *(f"{name}_out" for name in names)],
        dynamic=None,
    )


def window_graph(model: CausalModel, window_length: int) -> onnx.ModelProto:
    """A window of rows in, the logits of its last row out, from a zero state."""
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("time")}
    # Two windows, since torch.export takes an axis of length 1 for a constant.
    rows = torch.zeros(2, window_length, model.features)  # (2, L, F)
    return _traced(_Window(model), (rows,), inputs=[WINDOW], outputs=[LOGITS], dynamic=(axes,))


def node_counts(graph: bytes) -> dict[str, int]:
    """Nodes per operator in the bytes of an ONNX file, the most frequent first: each costs."""
    model = onnx.load_from_string(graph)
    return dict(Counter(node.op_type for node in model.graph.node).most_common())


def _traced(
    module: nn.Module,
    arguments: tuple[object, ...],
    *,
    inputs: list[str],
    outputs: list[str],
    dynamic: tuple[object, ...] | None,
) -> onnx.ModelProto:
    with _quiet(), _evaluating(module), torch.no_grad():
        program = torch.onnx.export(
            module,
            arguments,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=dynamic,
            opset_version=OPSET,
            dynamo=True,
            optimize=False,
            verbose=False,
        )
    assert program is not None, "torch.onnx.export returns a program where no file is named"
    model = program.model
    _fold(model)
    _strip(model)
    return onnx_ir.to_proto(model)


def _fold(model: onnx_ir.Model) -> None:
    """Evaluate what depends on weights alone, drop what nothing reads, and name what is left."""
    passes.InlinePass()(model)  # functions of the exporter's operator library
    lower_scans(model)
    _name_constants(model.graph)
    onnxscript.optimizer.fold_constants(
        model, input_size_limit=LARGEST_FOLDED, output_size_limit=LARGEST_FOLDED
    )
    Sequential(
        passes.RemoveUnusedNodesPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.NameFixPass(),
    )(model)
    _leave_out_unread(model.graph)


def _leave_out_unread(graph: onnx_ir.Graph) -> None:
    """Unname the outputs that nothing reads: onnxruntime makes each named one anew at every call.

    `RemoveUnusedNodesPass` does so for the operators that ONNX itself defines, and knows no other's.
    """
    answers = set(graph.outputs)
    for node in graph:
        if node.op_type not in FIRST_ALONE:
            continue
        read = [index for index, value in enumerate(node.outputs) if value.uses() or value in answers]
        for index in set(range(1, len(node.outputs))).difference(read):
            node.outputs[index].name = ""
        node.resize_outputs(max(read, default=0) + 1)


def _name_constants(graph: onnx_ir.Graph) -> None:
    """Weights by their name in the model; what is computed from weights alone by the operators, too.

    `-exp(A_log)` of layer 0 becomes `layers.0.block.A_log.exp.neg`; of two weights the first gives the name,
    and a second one of a name has a number behind it.
    """
    constant: set[onnx_ir.Value] = set()
    weights: set[onnx_ir.Value] = set()
    named_so: Counter[str] = Counter()
    for name, value in list(graph.initializers.items()):
        weights.add(value)
        value.name = name.removeprefix(PREFIX)
    for node in graph:
        read = [value for value in node.inputs if value is not None]
        if len(node.outputs) != 1 or not all(value in weights or value in constant for value in read):
            continue
        named = [value for value in read if value in weights]
        if named:
            name = f"{named[0].name}.{node.op_type.lower()}"
            node.outputs[0].name = f"{name}.{named_so[name]}" if named_so[name] else name
            named_so[name] += 1
            weights.add(node.outputs[0])
        else:
            constant.add(node.outputs[0])


def _strip(model: onnx_ir.Model) -> None:
    """Remove what the tracer notes of source lines and graph nodes: it holds paths of the machine."""
    model.doc_string = None
    model.metadata_props.clear()
    model.graph.doc_string = None
    model.graph.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    for node in model.graph:
        node.doc_string = None
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Every part of `module` in evaluation mode, and afterwards in the mode it was in."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


@contextmanager
def _quiet() -> Iterator[None]:
    """Hush what torch's exporter says of itself: packages it does not find, its own deprecated calls."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)  # "torchvision is not installed"
    try:
        with warnings.catch_warnings():
            # Raised by torch copying its own LeafSpec objects.
            warnings.filterwarnings(
                "ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning
            )
            yield
    finally:
        registration.setLevel(level)
