"""The weights of a model as one array of words, in the order in which a fused kernel reads them."""

import numpy as np
import numpy.typing as npt

from inference.fused.lanes import LANES, Words
from inference.fused.panels import split_outputs
from inference.fused.weight_format import BFloat16, Float32, Int8, Int16, WeightFormat, matrix_words

Matrix = npt.NDArray[np.float64]

PAGE_BYTES = 4096
LARGEST_BYTE = 127
LARGEST_SHORT = 32_766  # not 32,767: the bits below the high half may carry it one up
_SMALLEST_PEAK = 1e-30
_ROUNDING = 1 + 1e-9  # of the comparison itself, in float64


def aligned_words(count: int) -> npt.NDArray[np.float32]:
    """`count` float32 zeros that begin on a page, so that no vector straddles two cache lines."""
    room = np.zeros(count * 4 + PAGE_BYTES, np.uint8)
    first = -room.ctypes.data % PAGE_BYTES
    return room[first : first + count * 4].view(np.float32)


def pack_matrix(weights: WeightFormat, matrix: Matrix) -> npt.NDArray[np.float32]:
    """A matrix (inputs, outputs), both multiples of 16, as the words of its panels and what stands behind."""
    inputs, outputs = matrix.shape
    scale = _scales(weights, matrix)  # (outputs,)
    whole = np.rint(matrix / scale) if isinstance(weights, Int8) else matrix
    words: list[Words] = []
    column = 0
    for width in split_outputs(outputs // LANES):
        part = slice(column, column + width * LANES)
        column = part.stop
        if isinstance(weights, Float32):
            words.append(matrix[:, part].astype(np.float32).ravel())
        elif isinstance(weights, BFloat16):
            words.append(_pack_bfloat16(matrix[0::2, part], matrix[1::2, part]).view(np.float32).ravel())
        elif isinstance(weights, Int16):
            pair = _pack_int16(matrix[0::2, part] / scale[part], matrix[1::2, part] / scale[part])
            words.append(pair.view(np.float32).ravel())
        else:
            quads = whole[:, part].astype(np.int8).reshape(inputs // 4, 4, -1).transpose(0, 2, 1)
            words.append(np.ascontiguousarray(quads).reshape(-1).view(np.float32))
    if weights.output_words:
        words.append(scale.astype(np.float32))
    if isinstance(weights, Int8):
        zero_point = (128 * whole.sum(axis=0)).astype(np.int32)  # (outputs,)
        words.append(zero_point.view(np.float32))
    packed = np.concatenate(words)
    assert packed.size == matrix_words(weights, inputs, outputs)
    return packed


def unpack_matrix(weights: WeightFormat, words: Words, inputs: int, outputs: int) -> Matrix:
    """The matrix (inputs, outputs) that a kernel multiplies by when it reads `words`."""
    matrix = np.empty((inputs, outputs))
    behind = inputs * outputs // weights.rows
    column = at = 0
    for width in split_outputs(outputs // LANES):
        columns = width * LANES
        panel = words[at : at + inputs * columns // weights.rows]
        at += panel.size
        if isinstance(weights, Float32):
            values = panel.reshape(inputs, columns)
        elif isinstance(weights, Int8):
            values = panel.view(np.int8).reshape(-1, columns, 4).transpose(0, 2, 1).reshape(inputs, columns)
        else:
            pairs = panel.view(np.uint32).reshape(-1, 1, columns)
            halves = np.concatenate([pairs << 16, pairs], axis=1).reshape(inputs, columns)
            values = halves.view(np.float32 if isinstance(weights, BFloat16) else np.int32)
        matrix[:, column : column + columns] = values
        column += columns
    if weights.output_words:
        matrix *= words[behind : behind + outputs]
    return matrix


def stands_for(weights: WeightFormat, words: Words, matrix: Matrix) -> bool:
    """Whether `words` are `matrix` (inputs, outputs) as `pack_matrix` packs it.

    Each weight has to be the nearest there is, of float32 the same; scales, and of int8 what the zero point
    adds, the same. What passes beside the words that were packed: another sign of a zero, and the other
    neighbour of a weight just half way between two.
    """
    outputs = matrix.shape[1]
    scale = _scales(weights, matrix)  # (outputs,)
    scales = slice(matrix.size // weights.rows, matrix.size // weights.rows + outputs)
    if weights.output_words and not np.array_equal(words[scales], scale.astype(np.float32)):
        return False
    unpacked = unpack_matrix(weights, words, *matrix.shape)
    if isinstance(weights, Float32):
        return np.array_equal(unpacked, matrix.astype(np.float32))
    if isinstance(weights, BFloat16):
        return _nearest_bfloat16(unpacked, matrix)
    if isinstance(weights, Int8):
        whole = np.rint(matrix / scale)
        zero_point = words[-outputs:].view(np.int32)
        if not np.array_equal(zero_point, (128 * whole.sum(axis=0)).astype(np.int32)):
            return False
    half_step = scale * (0.5 if isinstance(weights, Int8) else 32_768)
    return bool((np.abs(unpacked - matrix) <= half_step * _ROUNDING).all())


def _nearest_bfloat16(unpacked: Matrix, matrix: Matrix) -> bool:
    """Whether no half beside the one read as `unpacked` would have been nearer, both (inputs, outputs)."""
    wanted = matrix.astype(np.float32).astype(np.float64)
    bits = unpacked.astype(np.float32).view(np.uint32)
    with np.errstate(invalid="ignore"):
        away = np.abs(unpacked - wanted)
        # Far from a weight, float64 does not tell the neighbours apart.
        fits = away <= np.abs(wanted) / 2 + np.finfo(np.float32).smallest_normal
        for beside in (bits + np.uint32(0x10000), bits - np.uint32(0x10000)):
            fits &= ~(np.abs(beside.view(np.float32) - wanted) < away)  # beside the last one is no number
    return bool(fits.all())


def _scales(weights: WeightFormat, matrix: Matrix) -> Matrix:
    """What one step of each output's whole numbers is worth; int16: a step of the word that holds two."""
    if not weights.output_words:
        return np.ones(matrix.shape[1])
    peak = np.maximum(np.abs(matrix).max(axis=0), _SMALLEST_PEAK)  # (outputs,)
    largest = LARGEST_BYTE if isinstance(weights, Int8) else LARGEST_SHORT * 65_536.0
    scale: Matrix = (peak / largest).astype(np.float32).astype(np.float64)
    return scale


def _pack_bfloat16(low: Matrix, high: Matrix) -> npt.NDArray[np.uint32]:
    """Low halves rounded to nearest even, high halves such that they are nearest as read: low bits below."""
    bits = low.astype(np.float32).view(np.uint32)
    bits = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    wanted = high.astype(np.float32)
    upper = (wanted.view(np.uint32) & np.uint32(0xFFFF0000)).astype(np.int64)
    best, error = bits, np.full(high.shape, np.inf)
    for step in (-1, 0, 1):
        candidate = (upper + step * 0x10000).clip(0, 0xFFFFFFFF).astype(np.uint32) | bits
        with np.errstate(invalid="ignore"):
            away = np.abs(candidate.view(np.float32).astype(np.float64) - wanted)
        away = np.where(np.isfinite(away), away, np.inf)
        best = np.where(away < error, candidate, best)
        error = np.minimum(away, error)
    return best


def _pack_int16(low: Matrix, high: Matrix) -> npt.NDArray[np.uint32]:
    """Both halves in steps of the whole word; the low one counts in 65,536ths, signed, below the high one."""
    lower = np.rint(low / 65_536).astype(np.int64) & 0xFFFF
    upper = np.rint((high - lower) / 65_536).astype(np.int64) & 0xFFFF
    return ((upper << 16) | lower).astype(np.uint32)
