"""The SSD block of Mamba-2 (Dao & Gu 2024, section 7): one scalar decay a head.

    x  (B, T, E)  the block's signal           z  (B, T, E)  its gate
    k  (B, T, N)  the paper's B, writes        q  (B, T, N)  the paper's C, reads
    dt (B, T, H)  the time step of each head   A  (H,)       its decay rate, below 0
    v  (B, T, E)  dt * x, what is written      D  (H,)       how much of x goes past the scan

B batch, T time, E inner width (d_inner), N state size (d_state), H heads, P their width, K convolution width.
"""

import math

import torch
from torch import Tensor, nn

from models.configurations import MambaLOBConfig
from models.operators import causal_conv, exporting, linear_attention, log_decay, rms_norm, silu
from models.projection import Projection
from models.scan import ssd_chunked
from models.time_step import initial_dt_bias
from models.weight_decay import without_weight_decay

EPSILON = 1e-5


class SSDBlock(nn.Module):
    """Normalised rows in, the residual stream's update out; the states of convolution and scan carried."""

    head_of_channel: Tensor  # (H, E), 1 where the channel belongs to the head

    def __init__(self, config: MambaLOBConfig) -> None:
        super().__init__()
        E, N, H = config.inner_width, config.state_size, config.heads
        self.config = config
        self.parts = [E, E + 2 * N, H]  # z; x, k and q, which the convolution sees; dt
        self.in_proj = Projection(config.width, sum(self.parts))
        bound = 1 / math.sqrt(config.conv_width)
        self.conv_weight = nn.Parameter(torch.empty(E + 2 * N, 1, config.conv_width).uniform_(-bound, bound))
        self.conv_bias = without_weight_decay(nn.Parameter(torch.empty(E + 2 * N).uniform_(-bound, bound)))
        self.dt_bias = without_weight_decay(nn.Parameter(initial_dt_bias(H)))  # (H,)
        self.A_log = without_weight_decay(nn.Parameter(torch.log(torch.empty(H).uniform_(1, 16))))  # (H,)
        self.D = without_weight_decay(nn.Parameter(torch.ones(H)))  # (H,)
        self.norm_weight = without_weight_decay(nn.Parameter(torch.ones(E)))  # (E,)
        self.out_proj = Projection(E, config.width)
        head_of_channel = torch.repeat_interleave(torch.eye(H), config.head_width, dim=1)
        self.register_buffer("head_of_channel", head_of_channel, persistent=False)

    def forward(
        self, x: Tensor, conv_state: Tensor | None, scan_state: Tensor | None, *, last_row: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """(B, T, width), (B, K - 1, E + 2 N), (B, H, N, P) -> the update (B, T, width) and the two states.

        `last_row`: the update of the last row alone, (B, 1, width).
        """
        config = self.config
        E, N, P = config.inner_width, config.state_size, config.head_width
        if last_row:
            z = x[:, -1:] @ self.in_proj.weight[:, :E]  # (B, 1, E): other rows' gates are not read
            xkq, dt = torch.split(x @ self.in_proj.weight[:, E:], self.parts[1:], dim=-1)
        else:
            z, xkq, dt = torch.split(self.in_proj(x), self.parts, dim=-1)
        xkq, conv_state = causal_conv(xkq, self.conv_weight, self.conv_bias, conv_state)
        x, k, q = torch.split(silu(xkq), [E, N, N], dim=-1)  # (B, T, E), (B, T, N), (B, T, N)
        A = -torch.exp(self.A_log)  # (H,)
        g = log_decay(dt, self.dt_bias, A)  # (B, T, H)
        v = (g @ (self.head_of_channel / A[:, None])) * x  # (B, T, E): dt = g / A
        if exporting():
            y, scan_state = linear_attention(v, g, k, q, scan_state, heads=config.heads)  # (B, T, E)
        else:
            assert scan_state is not None, "only an exported graph starts by itself"
            y, scan_state = ssd_chunked(v.view(*v.shape[:-1], -1, P), g, k, q, scan_state, config.chunk_rows)
            y = y.flatten(-2)  # (B, T, E)
        if last_row:
            x, y = x[:, -1:], y[:, -1:]  # (B, 1, E) each
        y = y + x * (self.D @ self.head_of_channel)  # (B, T, E)
        y = rms_norm(y * silu(z), self.norm_weight, EPSILON)  # (B, T, E)
        return self.out_proj(y), conv_state, scan_state
