"""The reference architecture, built and run as its authors do: S6 layers scanned by a loop over the window.

Written anew after nanoARB's `python/training/models/mamba_lob.py` (github.com/dhir1007/nanoARB): the same
layers in the same order and the same sizes, so the same 481,481 parameters and, traced, the same 7,210 nodes.
What sets it apart from `models.s6`, and is kept because it is theirs: decay rates shared by all channels, the
scan an ordinary Python loop that tracing unrolls, no state to carry from tick to tick.

    B batch, L window, F features, D width, E inner width (2D), N state size, R rank of the time step (N / 2)
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

PARAMETERS = 481_481
FEATURES = 40  # 10 levels of bid price, bid size, ask price, ask size
WINDOW = 100
HORIZONS, CLASSES = 3, 3


class ReferenceBlock(nn.Module):
    """Mamba-1: projection, causal convolution, selective scan, gate, projection."""

    def __init__(self, width: int, state_size: int, *, expand: int = 2, conv_width: int = 4) -> None:
        super().__init__()
        inner = expand * width
        self.rank, self.state_size = state_size // 2, state_size
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, conv_width, padding=conv_width - 1, groups=inner)
        self.x_proj = nn.Linear(inner, self.rank + 2 * state_size, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, state_size + 1, dtype=torch.float32)))  # (N,)
        self.D = nn.Parameter(torch.ones(inner))  # (E,)
        self.out_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        length = x.shape[1]
        x, z = self.in_proj(x).chunk(2, dim=-1)  # (B, L, E) each
        x = self.conv(x.transpose(1, 2))[:, :, :length].transpose(1, 2)  # (B, L, E)
        x = silu(x)
        dt, b, c = self.x_proj(x).split([self.rank, self.state_size, self.state_size], dim=-1)
        dt = softplus(self.dt_proj(dt))  # (B, L, E)
        decay = torch.exp(dt.unsqueeze(-1) * -torch.exp(self.A_log))  # (B, L, E, N)
        write = dt.unsqueeze(-1) * b.unsqueeze(-2)  # (B, L, E, N)
        h = torch.zeros(x.shape[0], x.shape[2], self.state_size)  # (B, E, N)
        rows = []
        for t in range(length):
            h = decay[:, t] * h + write[:, t] * x[:, t, :].unsqueeze(-1)
            rows.append((h * c[:, t].unsqueeze(1)).sum(dim=-1) + self.D * x[:, t, :])  # (B, E)
        y: Tensor = self.out_proj(torch.stack(rows, dim=1) * silu(z))
        return y


class ReferenceMamba(nn.Module):
    """Embedding, pre-norm residual layers, one small head a horizon on the last row."""

    def __init__(self, *, layers: int = 4, width: int = 128, state_size: int = 16) -> None:
        super().__init__()
        self.input_proj = nn.Linear(FEATURES, width)
        self.input_norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(ReferenceBlock(width, state_size) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width // 2), nn.GELU(), nn.Linear(width // 2, CLASSES))
            for _ in range(HORIZONS)
        )

    def forward(self, window: Tensor) -> Tensor:
        """(B, L, F) -> (B, H, C)."""
        x = self.input_norm(self.input_proj(window))  # (B, L, D)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + layer(norm(x))
        return torch.stack([head(x[:, -1, :]) for head in self.heads], dim=1)
