"""What a block computes with operators of PyTorch, and an exported graph with other ones.

`torch.onnx` traces the one model there is. While it does, each function here puts down what onnxruntime is
fast at instead of its own arithmetic, an operator of its domain `com.microsoft` as a rule; the parity gate of
the export holds the two against each other.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name for it
from torch import Tensor

DOMAIN_VERSION = 1
SCAN_DOMAIN, SCAN = "mambalob", "StateSpaceScan"  # stands in the traced graph alone


def exporting() -> bool:
    """Whether an ONNX graph is being traced rather than numbers computed."""
    return torch.onnx.is_in_onnx_export()


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """x (..., D) over its root mean square, times weight (D,) (Zhang & Sennrich 2019, eq. 4)."""
    if exporting():
        return torch.onnx.ops.symbolic(
            "RMSNormalization",
            (x, weight),
            attrs={"axis": -1, "epsilon": epsilon, "stash_type": 1},
            dtype=x.dtype,
            shape=x.shape,
        )
    return F.rms_norm(x, weight.shape, weight, epsilon)  # (..., D)


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """(rms_norm(x + residual), x + residual): the seam of two residual blocks; all (B, T, D)."""
    if exporting():
        normed, _, _, total = torch.onnx.ops.symbolic_multi_out(
            "com.microsoft::SkipSimplifiedLayerNormalization",
            (x, residual, weight),
            attrs={"epsilon": epsilon},
            dtypes=(x.dtype,) * 4,
            shapes=(x.shape, (*x.shape[:-1], 1), (*x.shape[:-1], 1), x.shape),
            version=DOMAIN_VERSION,
        )
        return normed, total
    total = x + residual  # (B, T, D)
    return F.rms_norm(total, weight.shape, weight, epsilon), total


def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x), any shape."""
    if exporting():
        return torch.onnx.ops.symbolic(
            "com.microsoft::QuickGelu",
            (x,),
            attrs={"alpha": 1.0},
            dtype=x.dtype,
            shape=x.shape,
            version=DOMAIN_VERSION,
        )
    return F.silu(x)


def log_decay(x: Tensor, bias: Tensor, rates: Tensor) -> Tensor:
    """g = rates * log(1 + exp(x + bias)): x (B, T, H), bias and rates (H,), rates below 0.

    The time step dt = log(1 + exp(x + bias)) of Gu & Dao 2023, algorithm 2, times the rates A.
    """
    if exporting():
        return torch.onnx.ops.symbolic(
            "com.microsoft::LinearAttentionGate",
            (x, bias, rates),
            dtype=x.dtype,
            shape=x.shape,
            version=DOMAIN_VERSION,
        )
    return rates * F.softplus(x + bias)


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), any shape.

    onnxruntime's own Softplus takes one number at a time, 11 ns each; its exponential and logarithm of
    vectors take 2. Exported are those two, kept from overflow: above 80 the answer is x.
    """
    if exporting():
        return torch.maximum(torch.log(torch.exp(x.clamp(max=80.0)) + 1), x)
    return F.softplus(x)


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """Depthwise causal convolution; the state is the last K - 1 inputs.

    x (B, T, E), weight (E, 1, K) with the newest tap last, bias (E,), state (B, K - 1, E) or None for zeros
    -> (y (B, T, E), state (B, K - 1, E)).
    """
    batch, rows, channels = x.shape
    taps = weight.shape[-1]
    if exporting() and state is None:
        return _conv_from_zero(x, weight, bias), x[:, 1 - taps :]
    if exporting():
        y, next_state = torch.onnx.ops.symbolic_multi_out(
            "com.microsoft::CausalConvWithState",
            (x, weight, bias, state),
            attrs={"channels_last": 1},
            dtypes=(x.dtype, x.dtype),
            shapes=(x.shape, (batch, taps - 1, channels)),
            version=DOMAIN_VERSION,
        )
        return y, next_state
    assert state is not None, "only an exported graph starts by itself"
    padded = torch.cat((state, x), dim=1)  # (B, K - 1 + T, E)
    y = bias + padded[:, :rows] * weight[:, 0, 0]  # (B, T, E)
    for tap in range(1, taps):
        y = torch.addcmul(y, padded[:, tap : tap + rows], weight[:, 0, tap])  # (B, T, E)
    return y, padded[:, rows:]  # (B, T, E), (B, K - 1, E)


def _conv_from_zero(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The exported nodes of `causal_conv` over many rows; as a picture one pixel wide.

    onnxruntime convolves pictures sixteen channels at a time, and rows of its CausalConvWithState one by one.
    """
    rows, channels = x.shape[1:]
    picture = x.unsqueeze(2).permute(0, 3, 1, 2)  # (B, E, T, 1)
    y = torch.onnx.ops.symbolic(
        "Conv",
        (picture, weight.unsqueeze(-1), bias),
        attrs={
            "group": channels,
            "kernel_shape": [weight.shape[-1], 1],
            "pads": [weight.shape[-1] - 1, 0, 0, 0],
        },
        dtype=x.dtype,
        shape=(x.shape[0], channels, rows, 1),
    )
    return y.permute(0, 2, 3, 1).squeeze(2)


def linear_attention(
    v: Tensor, g: Tensor, k: Tensor, q: Tensor, state: Tensor | None, *, heads: int
) -> tuple[Tensor, Tensor]:
    """The exported node of a gated recurrence S_t = exp(g_t) S_{t-1} + k_t (x) v_t, y_t = q_t S_t.

    v (B, T, heads * P), g (B, T, heads) or (B, T, heads * N), k and q (B, T, N) for all heads,
    state (B, heads, N, P), None for zeros -> (y (B, T, heads * P), state (B, heads, N, P)). Only while
    exporting; PyTorch's arithmetic for it is in `models.scan`.
    """
    batch, _, channels = v.shape
    y, next_state = torch.onnx.ops.symbolic_multi_out(
        "com.microsoft::LinearAttention",
        (q, k, v, state, g),
        attrs={"update_rule": "gated", "q_num_heads": 1, "kv_num_heads": heads, "scale": 1.0},
        dtypes=(v.dtype, v.dtype),
        shapes=(v.shape, (batch, heads, k.shape[-1], channels // heads)),
        version=DOMAIN_VERSION,
    )
    return y, next_state


def state_space_step(v: Tensor, decay: Tensor, k: Tensor, q: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The exported nodes of one row of S_t = decay_t * S_{t-1} + k_t (x) v_t, y_t = q_t S_t.

    v (B, 1, E), decay and state (B, N, E), k and q (B, 1, N) -> (y (B, 1, E), state (B, N, E)). Only while
    exporting. With channels last all four are operations on long vectors.
    """
    written = torch.onnx.ops.symbolic(
        "com.microsoft::FusedMatMul",
        (k, v),
        attrs={"transA": 1},
        dtype=v.dtype,
        shape=state.shape,
        version=DOMAIN_VERSION,
    )
    state = decay * state + written
    return q @ state, state


def state_space_scan(v: Tensor, dt: Tensor, rates: Tensor, k: Tensor, q: Tensor) -> Tensor:
    """The exported node of S_t = exp(dt_t rates) S_{t-1} + k_t (x) v_t, y_t = q_t S_t, from zero.

    v and dt (B, T, E), rates (N, E), k and q (B, T, N) -> y (B, T, E). Only while exporting;
    `training.scan_lowering` makes an ONNX Scan of it.
    """
    batch, rows, channels = v.shape
    y: Tensor = torch.onnx.ops.symbolic(
        f"{SCAN_DOMAIN}::{SCAN}",
        (
            v.new_zeros(batch, *rates.shape),
            dt.unsqueeze(2),
            v.unsqueeze(2),
            k.unsqueeze(3),
            q.unsqueeze(2),
            rates,
        ),
        dtype=v.dtype,
        shape=(batch, rows, 1, channels),
        version=DOMAIN_VERSION,
    )
    return y.squeeze(2)
