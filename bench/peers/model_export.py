"""A peer's PyTorch model to an ONNX file, traced: loops are unrolled, an LSTM layer is one operator.

torch 2.13 still has the tracing exporter behind `dynamo=False`, and says at every call that it is on its way
out. It is what the reference design's authors use, and the one that writes ONNX's LSTM operator, so it is
also the best the other peers can get.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

OPSET = 17


def export_traced(
    model: nn.Module,
    example: tuple[Tensor, ...],
    path: Path,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic_batch: bool = False,
) -> int:
    """Write `model`, traced on `example`, to `path`; answer how many nodes the graph has.

    `dynamic_batch`: leave the first axis of the first input and output open, as the reference design does.
    """
    axes = {inputs[0]: {0: "batch"}, outputs[0]: {0: "batch"}} if dynamic_batch else None
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # the exporter, of itself
        warnings.filterwarnings("ignore", category=TracerWarning)  # that a trace holds for its sizes
        for said in (
            "Using padding=.same. with even kernel",
            "Exporting a model to ONNX with a batch_size other",
        ):
            warnings.filterwarnings("ignore", message=said, category=UserWarning)
        torch.onnx.export(
            model.eval(),
            example,
            path,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=OPSET,
            do_constant_folding=True,
            dynamo=False,
        )
    return len(onnx.load(path).graph.node)
