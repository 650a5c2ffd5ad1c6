"""A MambaLOB out of its step graph: sizes, and weights by the names the export gives them.

The graph is the definition. Sizes are read off the shapes, the features of the linear path off its matrix,
the clip bounds and the norms' epsilon off the nodes that use them. What the kernels cannot do is refused with
what they can.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from inference.fused.lanes import LANES
from inference.fused.packing import Matrix, aligned_words, pack_matrix, stands_for
from inference.fused.sizes import Block, ModelSizes, padded, parameter_words
from inference.fused.weight_format import Float32, WeightFormat, matrix_words
from inference.onnx_weights import OnnxNode, OnnxWeights
from lob.errors import ArtifactError

Words = npt.NDArray[np.float32]

LARGEST_STATE_SIZE = 256
_NORMS = ("RMSNormalization", "SkipSimplifiedLayerNormalization")


@dataclass(frozen=True, kw_only=True)
class ModelWeights:
    """The sizes of a model and its weights, by the names they have in the graph."""

    sizes: ModelSizes
    graph: OnnxWeights

    def layer(self, index: int, name: str) -> Matrix:
        """A weight of a layer, `in_proj.weight` of its block say, as float64."""
        return self.graph.tensor(f"layers.{index}.block.{name}").astype(np.float64)


def model_weights(graph: OnnxWeights) -> ModelWeights:
    """The model in `graph`; raises ArtifactError naming what is missing, misshapen, or not supported."""
    blocks = {
        "s6" if f"layers.{index}.block.x_proj.weight" in graph.tensors else "ssd"
        for index in range(_layers(graph))
    }
    if len(blocks) != 1:
        raise ArtifactError(
            f"{graph.source}: {'both kinds of blocks' if blocks else 'no layer'} came; "
            "layers of one kind, SSD or S6, are supported by engine fused"
        )
    block: Block = "ssd" if blocks == {"ssd"} else "s6"
    first = "layers.0.block."
    features, width = _matrix_shape(graph, "embedding.weight")
    inner, _ = _matrix_shape(graph, first + "out_proj.weight")
    conv = graph.tensor(first + "conv_weight")
    if conv.ndim != 3 or conv.shape[1] != 1:
        raise ArtifactError(
            f"{graph.source}: {first}conv_weight: shape {list(conv.shape)} came, not (E, 1, K)"
        )
    steps = graph.tensor(first + "dt_bias").size
    linear_first, linear_count = _linear_features(graph)
    clip = _clip(graph)
    sizes = ModelSizes(
        block=block,
        layers=_layers(graph),
        features=features,
        width=width,
        inner=inner,
        state=(conv.shape[0] - inner) // 2
        if block == "ssd"
        else _matrix_shape(graph, first + "A_log.exp.neg.transpose")[0],
        heads=steps if block == "ssd" else 0,
        rank=_matrix_shape(graph, first + "dt_proj.weight")[0] if block == "s6" else 0,
        taps=conv.shape[2],
        outputs=_matrix_shape(graph, "head.weight")[1],
        linear_first=linear_first,
        linear_count=linear_count,
        clip_low=graph.number(clip.inputs[1]),
        clip_high=graph.number(clip.inputs[2]),
        epsilon=_epsilon(graph),
    )
    _check_supported(sizes, graph.source)
    for name, shape in _shapes(sizes).items():
        graph.tensor(name, shape)
    return ModelWeights(sizes=sizes, graph=graph)


def pack_weights(model: ModelWeights, weights: WeightFormat) -> Words:
    """All weights in the order in which a kernel for `weights` reads them; starts on a page."""
    words = aligned_words(parameter_words(model.sizes, weights))
    at = 0
    for piece in _pieces(model, weights):
        packed = (
            piece.matrix.astype(np.float32) if piece.kind is None else pack_matrix(piece.kind, piece.matrix)
        )
        words[at : at + packed.size] = packed.ravel()
        at += packed.size
    assert at == words.size
    return words


def check_packed(model: ModelWeights, weights: WeightFormat, words: Words) -> None:
    """Raise ArtifactError where `words` are not the graph's weights, each the nearest that `weights` has.

    A probe of a reduced format sees no error below its tolerance; this sees that of a single weight.
    """
    at = 0
    for number, piece in enumerate(_pieces(model, weights)):
        inputs, outputs = piece.matrix.shape
        size = inputs * outputs if piece.kind is None else matrix_words(piece.kind, inputs, outputs)
        part = words[at : at + size]
        at += size
        if piece.kind is None:
            fits = np.array_equal(part.reshape(inputs, outputs), piece.matrix.astype(np.float32))
        else:
            fits = stands_for(piece.kind, part, piece.matrix)
        if not fits:
            raise ArtifactError(
                f"{model.graph.source}: engine fused: part {number} of its packed weights does not stand for "
                "what the graph holds"
            )


class _Piece(NamedTuple):
    """Successive words: a matrix (inputs, outputs) in a format, or where that is None as it lies."""

    matrix: Matrix
    kind: WeightFormat | None


def _pieces(model: ModelWeights, weights: WeightFormat) -> Iterator[_Piece]:
    """The weights in the order in which a kernel reads them, padded."""
    sizes, graph = model.sizes, model.graph
    E, N, H = padded(sizes.inner), padded(sizes.state), padded(sizes.heads)

    def vector(values: Matrix, length: int) -> _Piece:
        return _Piece(_padded_to(values[None], 1, length), None)

    def product(matrix: Matrix, inputs: int, kind: WeightFormat) -> _Piece:
        return _Piece(_padded_to(matrix, inputs, padded(matrix.shape[1])), kind)

    def number(name: str) -> Matrix:
        return graph.tensor(name).astype(np.float64)

    plain = Float32()
    features, width = padded(sizes.features), padded(sizes.width)
    yield vector(number("normaliser.mean"), features)
    yield vector(number("normaliser.inverse_scale"), features)
    yield product(number("embedding.weight"), features, plain)
    for index in range(sizes.layers):
        norm = number(f"layers.{index}.norm_weight")[:, None]
        into = model.layer(index, "in_proj.weight") * norm
        taps = model.layer(index, "conv_weight")[:, 0].T  # (K, channels)
        taps = np.vstack([taps, model.layer(index, "conv_bias")])
        to_base_2 = np.log2(np.e)  # the kernels decay by powers of two
        if sizes.block == "ssd":
            parts = [sizes.inner, sizes.state, sizes.state]
            yield product(_spread(into, [sizes.inner, *parts, sizes.heads]), width, weights)
            yield _Piece(_spread(taps, parts), None)
            yield vector(model.layer(index, "dt_bias"), H)
            yield vector(model.layer(index, "A_log.exp.neg") * to_base_2, H)
            yield vector(model.layer(index, "D.matmul"), E)
            out = model.layer(index, "out_proj.weight") * model.layer(index, "norm_weight")[:, None]
        else:
            yield product(_spread(into, [sizes.inner, sizes.inner]), width, weights)
            yield _Piece(_spread(taps, [sizes.inner]), None)
            selection = model.layer(index, "x_proj.weight")
            yield product(_spread(selection, [sizes.rank, sizes.state, sizes.state]), E, weights)
            yield product(model.layer(index, "dt_proj.weight"), sizes.rank_rows, plain)
            yield vector(model.layer(index, "dt_bias"), E)
            rates = model.layer(index, "A_log.exp.neg.transpose") * to_base_2  # (N, E)
            lanes = _padded_to(rates, N, E).reshape(N, -1, LANES).transpose(1, 0, 2)  # (E / 16, N, 16)
            yield _Piece(lanes.reshape(-1, LANES), None)
            yield vector(model.layer(index, "D"), E)
            out = model.layer(index, "out_proj.weight")
        yield product(out, E, weights)
    yield product(number("head.weight") * number("norm_weight")[:, None], width, plain)
    linear = slice(sizes.linear_first, sizes.linear_first + sizes.linear_count)
    yield product(number("linear.weight.pad")[linear], sizes.linear_count, plain)
    yield vector(number("linear_bias"), padded(sizes.outputs))


def _padded_to(matrix: Matrix, rows: int, columns: int) -> Matrix:
    wide = np.zeros((rows, columns))
    wide[: matrix.shape[0], : matrix.shape[1]] = matrix
    return wide


def _spread(matrix: Matrix, parts: list[int]) -> Matrix:
    """Columns cut into `parts`, each padded to whole vectors."""
    cuts = np.split(matrix, np.cumsum(parts)[:-1], axis=1)
    return np.concatenate([_padded_to(cut, len(matrix), padded(cut.shape[1])) for cut in cuts], axis=1)


def _layers(graph: OnnxWeights) -> int:
    index = 0
    while f"layers.{index}.norm_weight" in graph.tensors:
        index += 1
    return index


def _matrix_shape(graph: OnnxWeights, name: str) -> tuple[int, int]:
    shape = graph.tensor(name).shape
    if len(shape) != 2:
        raise ArtifactError(
            f"{graph.source}: initializer {name}: shape {list(shape)} came, a matrix is allowed"
        )
    return int(shape[0]), int(shape[1])


def _clip(graph: OnnxWeights) -> OnnxNode:
    """What bounds the normalised row: the node that the embedding reads."""
    (row,) = [node.inputs[0] for node in graph.nodes if "embedding.weight" in node.inputs] or [""]
    for node in graph.nodes:
        if node.operator == "Clip" and row in node.outputs and len(node.inputs) == 3:
            return node
    raise ArtifactError(f"{graph.source}: Clip: none of the normalised row came, which engine fused needs")


def _linear_features(graph: OnnxWeights) -> tuple[int, int]:
    """The first of the features that go straight to the logits, and how many: the others' weights are 0."""
    weighs = np.flatnonzero(graph.tensor("linear.weight.pad").any(axis=1))
    return (int(weighs[0]), int(weighs[-1] - weighs[0] + 1)) if weighs.size else (0, 1)


def _epsilon(graph: OnnxWeights) -> float:
    found = {node.floats.get("epsilon") for node in graph.nodes if node.operator in _NORMS}
    epsilon = next(iter(found)) if len(found) == 1 else None
    if epsilon is None:
        raise ArtifactError(f"{graph.source}: epsilon of the norms: {found} came, one for all is supported")
    return epsilon


def _check_supported(sizes: ModelSizes, source: str) -> None:
    if sizes.block == "ssd" and (sizes.heads < 1 or sizes.inner % sizes.heads or sizes.head_width % LANES):
        width = sizes.inner / max(sizes.heads, 1)
        raise ArtifactError(
            f"{source}: head width {width:g} came; a multiple of {LANES} is supported by engine fused"
        )
    for name, came, least, most in (
        ("features", sizes.features, LANES, 1 << 12),
        ("state size", sizes.state, 1, LARGEST_STATE_SIZE),
        ("width of the convolution", sizes.taps, 2, 16),
        ("last feature of the linear path", sizes.linear_first + sizes.linear_count, 1, sizes.features),
    ):
        if not least <= came <= most:
            raise ArtifactError(
                f"{source}: {name} {came} came; {least} to {most} is supported by engine fused"
            )


def _shapes(sizes: ModelSizes) -> dict[str, tuple[int, ...]]:
    """Every initializer that is packed, with the shape it must have."""
    D, E, N, H, R = sizes.width, sizes.inner, sizes.state, sizes.heads, sizes.rank
    outputs, features = sizes.outputs, sizes.features
    shapes: dict[str, tuple[int, ...]] = {
        "normaliser.mean": (features,),
        "normaliser.inverse_scale": (features,),
        "embedding.weight": (features, D),
        "norm_weight": (D,),
        "head.weight": (D, outputs),
        "linear.weight.pad": (features, outputs),
        "linear_bias": (outputs,),
    }
    ssd: dict[str, tuple[int, ...]] = {
        "in_proj.weight": (D, 2 * E + 2 * N + H),
        "conv_weight": (E + 2 * N, 1, sizes.taps),
        "conv_bias": (E + 2 * N,),
        "dt_bias": (H,),
        "A_log.exp.neg": (H,),
        "D.matmul": (E,),
        "norm_weight": (E,),
        "out_proj.weight": (E, D),
    }
    s6: dict[str, tuple[int, ...]] = {
        "in_proj.weight": (D, 2 * E),
        "conv_weight": (E, 1, sizes.taps),
        "conv_bias": (E,),
        "x_proj.weight": (E, R + 2 * N),
        "dt_proj.weight": (R, E),
        "dt_bias": (E,),
        "A_log.exp.neg.transpose": (N, E),
        "D": (E,),
        "out_proj.weight": (E, D),
    }
    for index in range(sizes.layers):
        shapes[f"layers.{index}.norm_weight"] = (D,)
        for name, shape in (ssd if sizes.block == "ssd" else s6).items():
            shapes[f"layers.{index}.block.{name}"] = shape
    return shapes
