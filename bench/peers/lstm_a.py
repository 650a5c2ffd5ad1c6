"""LSTM_A of STAC-ML Markets (Inference): two LSTM layers of 100 units on 50 rows of 100 features.

One number comes out. With one bias a gate that is 160,901 parameters, with the two that PyTorch keeps
161,701; published as 161,000.

Two ways to run the same weights: the whole window at every tick (`LSTMA`, the suite's task), and one row with
the state handed in and out (`LSTMAStep`, what a carried state saves).

    B batch (1), L window, F features, U units
"""

import torch
from torch import Tensor, nn

PARAMETERS = 161_701
FEATURES = 100
WINDOW = 50
UNITS = 100
STATE = ("h_0", "c_0", "h_1", "c_1")


class LSTMA(nn.Module):
    """The window form. Time stands first inside, which spares the graph two transposes a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LSTM(FEATURES, UNITS)
        self.second = nn.LSTM(UNITS, UNITS)
        self.head = nn.Linear(UNITS, 1)

    def forward(self, window: Tensor) -> Tensor:
        """(1, L, F) -> (1, 1)."""
        x = window.reshape(-1, 1, FEATURES)  # (L, 1, F)
        x, _ = self.first(x)  # (L, 1, U)
        x, _ = self.second(x)  # (L, 1, U)
        y: Tensor = self.head(x[-1])
        return y


class LSTMAStep(nn.Module):
    """The same layers, one row at a time."""

    def __init__(self, model: LSTMA) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, row: Tensor, h_0: Tensor, c_0: Tensor, h_1: Tensor, c_1: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(1, 1, F) and the state, (1, 1, U) each -> (1, 1) and the next state."""
        x, (h_0, c_0) = self.model.first(row, (h_0, c_0))  # (1, 1, U)
        x, (h_1, c_1) = self.model.second(x, (h_1, c_1))  # (1, 1, U)
        return self.model.head(x[-1]), h_0, c_0, h_1, c_1


def initial_state() -> tuple[Tensor, ...]:
    """Zeros, in the order of `STATE`."""
    return tuple(torch.zeros(1, 1, UNITS) for _ in STATE)
