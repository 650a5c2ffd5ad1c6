"""BiN-C(TABL): bilinear normalisation before a temporal-attention bilinear network.

C(TABL), the third topology with temporal attention: Tran, Iosifidis, Kanniainen & Gabbouj 2019, IEEE
Transactions on Neural Networks and Learning Systems 30(5), arXiv 1712.00975; sizes 40 x 10 -> 60 x 10 ->
120 x 5 -> 3 x 1. BiN: the same group, ICPR 2020, arXiv 2003.00598. About 11,000 parameters, 102 are BiN's.

    B batch, D features, T time steps: a sample is (D, T), features first, as in the papers
"""

import torch
from torch import Tensor, nn

PARAMETERS = 11_446
FEATURES = 40
WINDOW = 10
CLASSES = 3
EPSILON = 1e-4


class BilinearNormalisation(nn.Module):
    """A learnt mix of the sample standardised along time and along features."""

    def __init__(self, features: int, steps: int) -> None:
        super().__init__()
        self.time_scale = nn.Parameter(torch.ones(features, 1))
        self.time_shift = nn.Parameter(torch.zeros(features, 1))
        self.feature_scale = nn.Parameter(torch.ones(1, steps))
        self.feature_shift = nn.Parameter(torch.zeros(1, steps))
        self.mix = nn.Parameter(torch.full((2,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, T) -> (B, D, T)."""
        along_time = _standardised(x, -1) * self.time_scale + self.time_shift
        along_features = _standardised(x, -2) * self.feature_scale + self.feature_shift
        return self.mix[0] * along_time + self.mix[1] * along_features


class Bilinear(nn.Module):
    """Y = relu(W1 X W2 + B)."""

    def __init__(self, features: tuple[int, int], steps: tuple[int, int]) -> None:
        super().__init__()
        self.W1 = nn.Parameter(torch.randn(features[1], features[0]) / features[0] ** 0.5)
        self.W2 = nn.Parameter(torch.randn(steps[0], steps[1]) / steps[0] ** 0.5)
        self.B = nn.Parameter(torch.zeros(features[1], steps[1]))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, T) -> (B, D', T')."""
        return torch.relu(self.W1 @ x @ self.W2 + self.B)


class TemporalAttentionBilinear(nn.Module):
    """TABL: time steps weighted by attention between the two maps."""

    eye: Tensor

    def __init__(self, features: tuple[int, int], steps: tuple[int, int]) -> None:
        super().__init__()
        self.W1 = nn.Parameter(torch.randn(features[1], features[0]) / features[0] ** 0.5)
        self.W = nn.Parameter(torch.full((steps[0], steps[0]), 1 / steps[0]))  # its diagonal stays 1 / T
        self.W2 = nn.Parameter(torch.randn(steps[0], steps[1]) / steps[0] ** 0.5)
        self.B = nn.Parameter(torch.zeros(features[1], steps[1]))
        self.share = nn.Parameter(torch.full((1,), 0.5))
        self.register_buffer("eye", torch.eye(steps[0]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, T) -> class probabilities (B, C)."""
        x = self.W1 @ x  # (B, C, T)
        attention = self.W * (1 - self.eye) + self.eye / self.W.shape[0]  # (T, T)
        weighted = x * torch.softmax(x @ attention, dim=-1)  # (B, C, T)
        x = self.share * weighted + (1 - self.share) * x
        return torch.softmax((x @ self.W2 + self.B).squeeze(-1), dim=-1)


class BiNCTABL(nn.Module):
    """BiN, two bilinear layers, one with temporal attention."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            BilinearNormalisation(FEATURES, WINDOW),
            Bilinear((FEATURES, 60), (WINDOW, 10)),
            Bilinear((60, 120), (10, 5)),
            TemporalAttentionBilinear((120, CLASSES), (5, 1)),
        )

    def forward(self, window: Tensor) -> Tensor:
        """(B, T, D) -> (B, C)."""
        y: Tensor = self.layers(window.transpose(1, 2))
        return y


def _standardised(x: Tensor, axis: int) -> Tensor:
    centred = x - x.mean(dim=axis, keepdim=True)
    variance = (centred * centred).mean(dim=axis, keepdim=True)
    return centred / torch.sqrt(variance + EPSILON)
