"""MambaLOB: a causal state-space model from order-book feature rows to class logits per horizon.

    rows -> normalise -> embed -> [norm -> S6 or SSD block -> add] x layers -> norm -> head -> + -> logits
                     \\-> microprice, spread, imbalance_1 ---------------------------> linear -/

The linear path is a logistic regression on the three features that carry nearly all the signal. The head of
the state-space path starts at zero, so that a model begins as that regression and training adds to it.

Letters: B batch, T time, F features, D width, H horizons, C classes (0 down, 1 flat, 2 up).
"""

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name for it
from torch import Tensor, nn

from lob.schema import schema_named
from models.configurations import MambaLOBConfig
from models.normaliser import Normaliser
from models.operators import add_rms_norm, exporting, rms_norm
from models.projection import Projection
from models.s6 import S6Block
from models.ssd import SSDBlock
from models.weight_decay import without_weight_decay

LINEAR_FEATURES = ("microprice", "spread", "imbalance_1")
EPSILON = 1e-5


class MambaLOB(nn.Module):
    """The causal model: `forward` over sequences, `step` over rows, one state for both.

    The state is a flat tuple of tensors, in the order of `state_names`, the batch first in each.
    """

    def __init__(self, config: MambaLOBConfig) -> None:
        super().__init__()
        self.config = config
        names = schema_named(config.schema).feature_names
        self.features = len(names)
        columns = [names.index(name) for name in LINEAR_FEATURES]
        self.linear_columns = slice(columns[0], columns[-1] + 1)
        assert columns == list(range(len(names)))[self.linear_columns], (
            "the linear path takes adjacent columns"
        )
        outputs = len(config.horizons) * config.classes
        self.normaliser = Normaliser(self.features, config.clip)
        self.embedding = Projection(self.features, config.width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm_weight = without_weight_decay(nn.Parameter(torch.ones(config.width)))  # (D,)
        self.head = Projection(config.width, outputs)
        self.linear = Projection(len(LINEAR_FEATURES), outputs)
        self.linear_bias = without_weight_decay(nn.Parameter(torch.zeros(outputs)))  # (H * C,)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.linear.weight)

    def state_names(self) -> tuple[str, ...]:
        """conv_0, scan_0, conv_1, scan_1, ...: the order of the state tuple."""
        return tuple(self.config.state_shapes)

    def initial_state(self, batch: int) -> tuple[Tensor, ...]:
        """The state before the first row: zeros, (batch, *shape) for each of the configuration's shapes."""
        return tuple(self.norm_weight.new_zeros(batch, *shape) for shape in self.config.state_shapes.values())

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, F) -> (B, T, H, C): logits at every position, from a zero state."""
        return self.forward_from(x, *self.initial_state(x.shape[0]))[0]

    def forward_from(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """(B, T, F) and a state -> (B, T, H, C) and the state after the last row; differentiable in both."""
        x = self.normaliser(x)  # (B, T, F)
        update, residual, next_state = self._blocks(x, state)
        logits = self._readout(update, residual, x)  # (B, T, H * C)
        return logits.reshape(*x.shape[:-1], len(self.config.horizons), self.config.classes), *next_state

    def forward_last(self, x: Tensor) -> Tensor:
        """(B, T, F) -> (B, H, C): the last position of `forward`, and no other is read out."""
        # While exporting no state is given: the operators of a window graph start from zeros by themselves.
        state = () if exporting() else self.initial_state(x.shape[0])
        x = self.normaliser(x)  # (B, T, F)
        update, residual, _ = self._blocks(x, state, last_row=True)
        return self._of_one_row(self._readout(update, residual, x[:, -1:]))

    def step(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """One row (B, F) and a state -> (B, H, C) and the next state; T of them equal `forward`."""
        x = self.normaliser(x.unsqueeze(1))  # (B, 1, F)
        update, residual, next_state = self._blocks(x, state)
        return self._of_one_row(self._readout(update, residual, x)), *next_state

    def _blocks(
        self, x: Tensor, state: tuple[Tensor, ...], *, last_row: bool = False
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Normalised rows -> the last block's update, its stream, both (B, T, D); the state.

        `last_row`: both of the last row alone, (B, 1, D).
        """
        residual = self.embedding(x)  # (B, T, D)
        update: Tensor | None = None
        next_state: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            conv_state, scan_state = state[2 * index : 2 * index + 2] or (None, None)
            last = last_row and index == len(self.layers) - 1
            update, residual, *pair = layer(update, residual, conv_state, scan_state, last_row=last)
            next_state += pair
        assert update is not None, "a configuration has at least one layer"
        return update, residual, tuple(next_state)

    def _readout(self, update: Tensor, residual: Tensor, x: Tensor) -> Tensor:
        """The last update and stream (..., D), normalised rows (..., F) -> logits (..., H * C)."""
        normed, _ = add_rms_norm(update, residual, self.norm_weight, EPSILON)  # (..., D)
        columns = self.linear_columns
        # Zeros for the other features, constant in a graph, cost less there than cutting the row.
        linear = F.pad(self.linear.weight, (0, 0, columns.start, self.features - columns.stop))
        logits: Tensor = self.head(normed) + x @ linear + self.linear_bias
        return logits

    def _of_one_row(self, logits: Tensor) -> Tensor:
        """(B, 1, H * C) -> (B, H, C)."""
        return logits.reshape(-1, len(self.config.horizons), self.config.classes)


class Layer(nn.Module):
    """A pre-norm residual block, cut before its addition: that is one operator with the next one's norm."""

    def __init__(self, config: MambaLOBConfig) -> None:
        super().__init__()
        self.norm_weight = without_weight_decay(nn.Parameter(torch.ones(config.width)))  # (D,)
        self.block = SSDBlock(config) if config.block == "ssd" else S6Block(config)

    def forward(
        self,
        update: Tensor | None,
        residual: Tensor,
        conv_state: Tensor | None,
        scan_state: Tensor | None,
        *,
        last_row: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """The block before's update (None for the first) and the stream -> this one's, and its states.

        `last_row`: this one's update and stream of the last row alone.
        """
        if update is None:
            normed = rms_norm(residual, self.norm_weight, EPSILON)  # (B, T, D)
        else:
            normed, residual = add_rms_norm(update, residual, self.norm_weight, EPSILON)  # (B, T, D) each
        update, conv_state, scan_state = self.block(normed, conv_state, scan_state, last_row=last_row)
        return update, residual[:, -1:] if last_row else residual, conv_state, scan_state


def parameter_count(model: nn.Module) -> int:
    """How many numbers training may change."""
    return sum(p.numel() for p in model.parameters())
