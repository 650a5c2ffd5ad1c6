"""What a causal model offers, whatever is inside: training, export and parity use nothing else."""

from typing import Protocol

from torch import Tensor


class CausalModel(Protocol):
    """An nn.Module with a prediction at every row, from that row and those before it.

    B batch, T time, F features, H horizons, C classes. The state is a flat tuple of tensors, the batch first
    in each; `step` run T times equals `forward`.
    """

    @property
    def features(self) -> int:
        """F."""

    def state_names(self) -> tuple[str, ...]:
        """The name of each state tensor, in the order of the tuple."""

    def initial_state(self, batch: int) -> tuple[Tensor, ...]:
        """The state before the first row."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, F) -> (B, T, H, C)."""

    def forward_last(self, x: Tensor) -> Tensor:
        """(B, T, F) -> (B, H, C): the last position of `forward`."""

    def step(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """(B, F) and a state -> (B, H, C) and the next state."""
