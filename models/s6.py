"""The S6 block of Mamba (Gu & Dao 2023, section 3.4): a decay of its own for every channel and state.

    x  (B, T, E)  the block's signal             z  (B, T, E)  its gate
    k  (B, T, N)  the paper's B, writes          q  (B, T, N)  the paper's C, reads
    dt (B, T, E)  the time step of each channel  A  (E, N)     decay rates, below 0
    v  (B, T, E)  dt * x, what is written        D  (E,)       how much of x goes past the scan

B batch, T time, E inner width (ED), N state size, R rank of the time step's projection, K convolution width.
"""

import math

import torch
from torch import Tensor, nn

from models.configurations import MambaLOBConfig
from models.operators import causal_conv, exporting, silu, softplus, state_space_scan, state_space_step
from models.projection import Projection
from models.scan import s6_chunked
from models.time_step import initial_dt_bias
from models.weight_decay import without_weight_decay


class S6Block(nn.Module):
    """Normalised rows in, the residual stream's update out; the states of convolution and scan carried."""

    def __init__(self, config: MambaLOBConfig) -> None:
        super().__init__()
        E, N, R = config.inner_width, config.state_size, config.dt_rank
        self.config = config
        self.in_proj = Projection(config.width, 2 * E)
        bound = 1 / math.sqrt(config.conv_width)
        self.conv_weight = nn.Parameter(torch.empty(E, 1, config.conv_width).uniform_(-bound, bound))
        self.conv_bias = without_weight_decay(nn.Parameter(torch.empty(E).uniform_(-bound, bound)))
        self.x_proj = Projection(E, R + 2 * N)
        self.dt_proj = Projection(R, E)
        self.dt_bias = without_weight_decay(nn.Parameter(initial_dt_bias(E)))  # (E,)
        rates = torch.arange(1, N + 1, dtype=torch.float32).repeat(E, 1)  # (E, N), S4D-Real
        self.A_log = without_weight_decay(nn.Parameter(torch.log(rates)))  # (E, N)
        self.D = without_weight_decay(nn.Parameter(torch.ones(E)))  # (E,)
        self.out_proj = Projection(E, config.width)

    def forward(
        self, x: Tensor, conv_state: Tensor | None, scan_state: Tensor | None, *, last_row: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """(B, T, width), (B, K - 1, E), (B, N, E) -> the update (B, T, width) and the two states.

        `last_row`: the update of the last row alone, (B, 1, width).
        """
        config = self.config
        E, N, R = config.inner_width, config.state_size, config.dt_rank
        if last_row:
            z = x[:, -1:] @ self.in_proj.weight[:, E:]  # (B, 1, E): other rows' gates are not read
            x = x @ self.in_proj.weight[:, :E]  # (B, T, E)
        else:
            x, z = torch.split(self.in_proj(x), [E, E], dim=-1)  # (B, T, E), (B, T, E)
        x, conv_state = causal_conv(x, self.conv_weight, self.conv_bias, conv_state)
        x = silu(x)  # (B, T, E)
        dt, k, q = torch.split(self.x_proj(x), [R, N, N], dim=-1)  # (B, T, R), (B, T, N), (B, T, N)
        dt = softplus(self.dt_proj(dt) + self.dt_bias)  # (B, T, E)
        A = -torch.exp(self.A_log)  # (E, N)
        v = dt * x  # (B, T, E)
        if not exporting():
            assert scan_state is not None, "only an exported graph starts by itself"
            y, scan_state = s6_chunked(v, dt, A, k, q, scan_state.mT, config.chunk_rows)  # (B, T, E)
            scan_state = scan_state.mT  # (B, N, E)
        elif scan_state is not None:
            y, scan_state = state_space_step(v, torch.exp(dt * A.T), k, q, scan_state)  # (B, 1, E)
        else:
            y = state_space_scan(v, dt, A.T, k, q)  # (B, T, E)
        if last_row:
            x, y = x[:, -1:], y[:, -1:]  # (B, 1, E) each
        y = (y + x * self.D) * silu(z)  # (B, T, E)
        return self.out_proj(y), conv_state, scan_state
