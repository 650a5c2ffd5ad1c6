"""The sizes of a model, and the numbers a fused kernel is compiled with: sizes padded to lanes, and offsets.

Letters: F features, D width, E inner width, N state size, H heads of width P (SSD), R rank of the time step
(S6), K width of the convolution.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from inference.fused.lanes import LANES
from inference.fused.weight_format import WeightFormat, matrix_words

Block = Literal["ssd", "s6"]

RANK_ROWS = 8  # the inputs of the time step's projection are padded to a multiple of this


@dataclass(frozen=True, kw_only=True)
class ModelSizes:
    """What the shapes of the weights say, and the three numbers of the graph that are none."""

    block: Block
    layers: int
    features: int  # F
    width: int  # D
    inner: int  # E
    state: int  # N
    heads: int  # H; 0 for S6
    rank: int  # R; 0 for SSD
    taps: int  # K
    outputs: int  # horizons * classes
    linear_first: int  # the features that also go straight to the logits
    linear_count: int
    clip_low: float
    clip_high: float
    epsilon: float

    @property
    def head_width(self) -> int:
        """P = E / H of an SSD block."""
        return self.inner // self.heads

    @property
    def rank_rows(self) -> int:
        """Inputs of the time step's projection of an S6 block: R, padded."""
        return -(-self.rank // RANK_ROWS) * RANK_ROWS


class Offsets(NamedTuple):
    """Where the parts of the scratch begin, in words; its first words are the logits."""

    residual: int  # the residual stream, (D,)
    projected: int  # what a projection gave
    signal: int  # what the convolution gave
    gated: int  # what goes into the output projection, (E,)
    quantised: int  # the bytes of a projection's input, and what one of their steps is worth
    row: int  # the normalised row, (F,)
    steps: int  # time steps; decays behind them (SSD)
    selection: int  # R, k and q (S6)
    squares: int  # a sum of squares, between the parts of a step of several symbols
    words: int


class SSDSizes(NamedTuple):
    """The numbers of an SSD kernel; D, E, N, H and F padded to whole vectors where a field says words."""

    weights: WeightFormat
    offsets: Offsets
    layers: int
    features: int
    row_words: int
    width_words: int
    inner_words: int
    state_words: int
    head_words: int
    heads: int
    head_width: int
    taps: int
    output_words: int
    linear_first: int
    linear_count: int
    layer_state_words: int
    width: np.float32
    inner: np.float32
    clip_low: np.float32
    clip_high: np.float32
    epsilon: np.float32


class S6Sizes(NamedTuple):
    """The numbers of an S6 kernel, as `SSDSizes`."""

    weights: WeightFormat
    offsets: Offsets
    layers: int
    features: int
    row_words: int
    width_words: int
    inner_words: int
    state_words: int
    rank_words: int
    rank_rows: int
    taps: int
    output_words: int
    linear_first: int
    linear_count: int
    layer_state_words: int
    width: np.float32
    clip_low: np.float32
    clip_high: np.float32
    epsilon: np.float32


KernelSizes: TypeAlias = SSDSizes | S6Sizes


def padded(count: int) -> int:
    """`count` words rounded up to whole vectors."""
    return -(-count // LANES) * LANES


def kernel_sizes(sizes: ModelSizes, weights: WeightFormat) -> KernelSizes:
    """The numbers that the kernel for these sizes and this weight format is compiled with."""
    D, E, N = padded(sizes.width), padded(sizes.inner), padded(sizes.state)
    if sizes.block == "ssd":
        H, P = padded(sizes.heads), sizes.head_width
        return SSDSizes(
            weights=weights,
            offsets=_offsets(sizes, projected=2 * E + 2 * N + H, signal=E + 2 * N, steps=2 * H, selection=0),
            layers=sizes.layers,
            features=sizes.features,
            row_words=padded(sizes.features),
            width_words=D,
            inner_words=E,
            state_words=N,
            head_words=H,
            heads=sizes.heads,
            head_width=P,
            taps=sizes.taps,
            output_words=padded(sizes.outputs),
            linear_first=sizes.linear_first,
            linear_count=sizes.linear_count,
            layer_state_words=(sizes.taps - 1) * (E + 2 * N) + E * N,
            width=np.float32(sizes.width),
            inner=np.float32(sizes.inner),
            clip_low=np.float32(sizes.clip_low),
            clip_high=np.float32(sizes.clip_high),
            epsilon=np.float32(sizes.epsilon),
        )
    R = padded(sizes.rank)
    return S6Sizes(
        weights=weights,
        offsets=_offsets(sizes, projected=2 * E, signal=E, steps=E, selection=R + 2 * N),
        layers=sizes.layers,
        features=sizes.features,
        row_words=padded(sizes.features),
        width_words=D,
        inner_words=E,
        state_words=N,
        rank_words=R,
        rank_rows=sizes.rank_rows,
        taps=sizes.taps,
        output_words=padded(sizes.outputs),
        linear_first=sizes.linear_first,
        linear_count=sizes.linear_count,
        layer_state_words=(sizes.taps - 1) * E + E * N,
        width=np.float32(sizes.width),
        clip_low=np.float32(sizes.clip_low),
        clip_high=np.float32(sizes.clip_high),
        epsilon=np.float32(sizes.epsilon),
    )


def _offsets(sizes: ModelSizes, *, projected: int, signal: int, steps: int, selection: int) -> Offsets:
    D, E, outputs = padded(sizes.width), padded(sizes.inner), padded(sizes.outputs)
    lengths = {
        "residual": D,
        "projected": max(projected, D, outputs),
        "signal": signal,
        "gated": E,
        "quantised": padded(max(D, E) // 4) + LANES,
        "row": padded(sizes.features),
        "steps": steps,
        "selection": selection,
        "squares": LANES,
    }
    places, at = {}, outputs
    for name, length in lengths.items():
        places[name] = at
        at += length
    return Offsets(**places, words=at)


def parameter_words(sizes: ModelSizes, weights: WeightFormat) -> int:
    """Words of the packed parameters of a model."""
    D, E, N, F = (padded(n) for n in (sizes.width, sizes.inner, sizes.state, sizes.features))
    outputs = padded(sizes.outputs)
    if sizes.block == "ssd":
        H, conv = padded(sizes.heads), E + 2 * N
        layer = matrix_words(weights, D, 2 * E + 2 * N + H) + (sizes.taps + 1) * conv + 2 * H + E
    else:
        R, rows = padded(sizes.rank), sizes.rank_rows
        layer = matrix_words(weights, D, 2 * E) + (sizes.taps + 1) * E
        layer += matrix_words(weights, E, R + 2 * N) + rows * E + E + E * N + E
    layer += matrix_words(weights, E, D)
    return 2 * F + F * D + sizes.layers * layer + D * outputs + (sizes.linear_count + 1) * outputs
