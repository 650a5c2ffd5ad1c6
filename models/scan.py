"""The two selective scans, each as a slow reference loop and as the chunked form that training runs.

Letters, with the papers' names (Gu & Dao 2023 = "Mamba"; Dao & Gu 2024 = "Mamba-2"):

    B, T    batch and time                       E   inner width (Mamba: ED, Mamba-2: d_inner)
    N       state size (d_state)                 H   heads, P  width of a head, E = H * P
    v       the scan's input, dt * x             g   logarithm of the decay, dt * A, never above 0
    k       what writes to the state (B)         q   what reads it (C)
    S       the state                            Q   rows in a chunk (Mamba-2: block length), K chunks

SSD (Mamba-2, eq. 6 with one decay a head): S_t = exp(g_t) S_{t-1} + k_t (x) v_t,  y_t = q_t S_t
S6 (Mamba, eq. 2a with A diagonal):         S_t = exp(dt_t A) S_{t-1} + k_t (x) v_t,  y_t = q_t S_t
"""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name for it
from torch import Tensor
from torch.autograd.function import once_differentiable


def ssd_reference(v: Tensor, g: Tensor, k: Tensor, q: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The SSD recurrence, one row after the other.

    v (B, T, H, P), g (B, T, H), k and q (B, T, N), state (B, H, N, P) -> (y (B, T, H, P), last state).
    """
    outputs = []
    for t in range(v.shape[1]):
        written = k[:, t, None, :, None] * v[:, t, :, None, :]  # (B, H, N, P)
        state = torch.exp(g[:, t])[:, :, None, None] * state + written  # (B, H, N, P)
        outputs.append((q[:, t, None, None, :] @ state)[:, :, 0])  # (B, H, P)
    return torch.stack(outputs, dim=1), state  # (B, T, H, P), (B, H, N, P)


def ssd_chunked(
    v: Tensor, g: Tensor, k: Tensor, q: Tensor, state: Tensor, chunk_rows: int
) -> tuple[Tensor, Tensor]:
    """`ssd_reference` as matrix products over chunks of Q rows (Mamba-2, section 6 and listing 1).

    Every exponent is a sum of decays and so never above 0. The sums are differences of cumulative sums, taken
    in float64: two large ones may differ by little.
    """
    rows = v.shape[1]
    Q = min(chunk_rows, rows)
    short = -rows % Q
    if short:  # rows of zeros neither write to the state nor decay it
        v = F.pad(v, (0, 0, 0, 0, 0, short))
        g, k, q = (F.pad(part, (0, 0, 0, short)) for part in (g, k, q))
    batch, _, heads, width = v.shape
    v = v.reshape(batch, -1, Q, heads, width).transpose(2, 3)  # (B, K, H, Q, P)
    g = g.reshape(batch, -1, Q, heads).transpose(2, 3)  # (B, K, H, Q)
    k = k.reshape(batch, -1, 1, Q, k.shape[-1])  # (B, K, 1, Q, N)
    q = q.reshape(batch, -1, 1, Q, q.shape[-1])  # (B, K, 1, Q, N)

    total = torch.cumsum(g, dim=-1, dtype=torch.float64)  # (B, K, H, Q)
    between = (total[..., :, None] - total[..., None, :]).to(v.dtype)  # (B, K, H, Q, Q), from column to row
    future = torch.ones(Q, Q, dtype=torch.bool, device=v.device).triu(1)  # (Q, Q)
    decay = torch.exp(between.masked_fill(future, -torch.inf))  # (B, K, H, Q, Q)
    within = ((q @ k.mT) * decay) @ v  # (B, K, H, Q, P)

    to_end = torch.exp((total[..., -1:] - total).to(v.dtype))  # (B, K, H, Q)
    written = k.mT @ (v * to_end[..., None])  # (B, K, H, N, P)
    whole = torch.exp(total[..., -1].to(v.dtype))[..., None, None]  # (B, K, H, 1, 1)
    entering = []
    for chunk in range(v.shape[1]):
        entering.append(state)
        state = torch.addcmul(written[:, chunk], whole[:, chunk], state)  # (B, H, N, P)
    from_start = torch.exp(total.to(v.dtype))[..., None]  # (B, K, H, Q, 1)
    before = (q @ torch.stack(entering, dim=1)) * from_start  # (B, K, H, Q, P)
    y = (within + before).transpose(2, 3).flatten(1, 2)  # (B, K * Q, H, P)
    return y[:, :rows], state


def s6_reference(
    v: Tensor, dt: Tensor, A: Tensor, k: Tensor, q: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The S6 recurrence, one row after the other.

    v and dt (B, T, E), A (E, N), k and q (B, T, N), state (B, E, N) -> (y (B, T, E), last state).
    """
    outputs = []
    for t in range(v.shape[1]):
        written = v[:, t, :, None] * k[:, t, None, :]  # (B, E, N)
        state = torch.exp(dt[:, t, :, None] * A) * state + written  # (B, E, N)
        outputs.append((state @ q[:, t, :, None])[:, :, 0])  # (B, E)
    return torch.stack(outputs, dim=1), state  # (B, T, E), (B, E, N)


def s6_chunked(
    v: Tensor, dt: Tensor, A: Tensor, k: Tensor, q: Tensor, state: Tensor, chunk_rows: int
) -> tuple[Tensor, Tensor]:
    """`s6_reference` with everything but the recurrence itself done a chunk at a time.

    As the paper's own kernel does (Mamba, section 3.3.2), only the states between chunks are kept and those
    inside are computed again for the gradient. Nothing is divided by a decay, so no decay is too strong.
    """
    scan = cast(Callable[..., tuple[Tensor, Tensor]], _ChunkedS6.apply)
    return scan(v, dt, A, k, q, state, chunk_rows)


class _ChunkedS6(torch.autograd.Function):
    """Forward and hand-written gradient of the S6 scan, chunk by chunk."""

    @staticmethod
    def states(v: Tensor, dt: Tensor, A: Tensor, k: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Decays and the states after each row of one chunk, time first: both (Q, B, E, N)."""
        decay = torch.exp(dt.transpose(0, 1)[..., None] * A)  # (Q, B, E, N)
        states = v.transpose(0, 1)[..., None] * k.transpose(0, 1)[:, :, None, :]  # (Q, B, E, N)
        for t in range(len(states)):
            states[t].addcmul_(decay[t], state)
            state = states[t]
        return decay, states

    @staticmethod
    def forward(
        ctx: Any, v: Tensor, dt: Tensor, A: Tensor, k: Tensor, q: Tensor, state: Tensor, chunk_rows: int
    ) -> tuple[Tensor, Tensor]:
        entering, outputs = [], []
        for first in range(0, v.shape[1], chunk_rows):
            part = slice(first, first + chunk_rows)
            entering.append(state)
            _, states = _ChunkedS6.states(v[:, part], dt[:, part], A, k[:, part], state)
            outputs.append((states @ q[:, part].transpose(0, 1)[..., None])[..., 0])  # (Q, B, E)
            state = states[-1].clone()  # (B, E, N)
        ctx.save_for_backward(v, dt, A, k, q, torch.stack(entering))
        ctx.chunk_rows = chunk_rows
        return torch.cat(outputs).transpose(0, 1), state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_state: Tensor) -> tuple[Tensor | None, ...]:
        v, dt, A, k, q, entering = ctx.saved_tensors
        grads: list[list[Tensor]] = [[], [], [], []]
        grad_A = torch.zeros_like(A)
        for chunk in reversed(range(len(entering))):
            part = slice(chunk * ctx.chunk_rows, (chunk + 1) * ctx.chunk_rows)
            decay, states = _ChunkedS6.states(v[:, part], dt[:, part], A, k[:, part], entering[chunk])
            vs, dts, ks, qs, gys = (x[:, part].transpose(0, 1) for x in (v, dt, k, q, grad_y))  # (Q, B, .)
            adjoint = gys[..., None] * qs[:, :, None, :]  # (Q, B, E, N): d loss / d S_t
            adjoint[-1] += grad_state
            for t in range(len(adjoint) - 1, 0, -1):
                adjoint[t - 1].addcmul_(decay[t], adjoint[t])
            grad_state = decay[0] * adjoint[0]  # (B, E, N)
            grads[0].append((adjoint @ ks[..., None])[..., 0])  # d v (Q, B, E)
            grads[2].append((vs[..., None, :] @ adjoint)[..., 0, :])  # d k (Q, B, N)
            grads[3].append((gys[..., None, :] @ states)[..., 0, :])  # d q (Q, B, N)
            before = torch.cat((entering[chunk][None], states[:-1]))  # (Q, B, E, N)
            exponent = adjoint.mul_(decay).mul_(before)  # d (dt A) (Q, B, E, N)
            grads[1].append((exponent * A).sum(-1))  # d dt (Q, B, E)
            grad_A += torch.einsum("qben,qbe->en", exponent, dts)
        grad_v, grad_dt, grad_k, grad_q = (torch.cat(g[::-1]).transpose(0, 1) for g in grads)
        return grad_v, grad_dt, grad_A, grad_k, grad_q, grad_state, None
