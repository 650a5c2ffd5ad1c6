"""DeepLOB (Zhang, Zohren & Roberts 2019, IEEE Transactions on Signal Processing 67(11), arXiv 1808.03668).

As published (figure 3): three convolutional blocks of 16 filters that bring the 40 columns of a row down to
one, an inception module of 32 filters a branch, an LSTM of 64 units, a softmax of three classes; every
convolution padded so that 100 time steps stay 100, leaky ReLU of slope 0.01, 60,000 parameters (256 of the
count here are the second bias that PyTorch's LSTM has). Later code, the authors' own included, doubles the
filters and adds batch normalisation.

    B batch, L window, F features (40)
"""

from torch import Tensor, cat, nn, softmax

PARAMETERS = 60_947
FEATURES = 40
WINDOW = 100
FILTERS, BRANCH_FILTERS, UNITS, CLASSES = 16, 32, 64, 3
SLOPE = 0.01


class DeepLOB(nn.Module):
    """Convolutions over levels and time, then an LSTM over time."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *_block(1, (1, 2), (1, 2)),  # price and size of a level: 40 columns to 20
            *_block(FILTERS, (1, 2), (1, 2)),  # bid and ask: 20 to 10
            *_block(FILTERS, (1, 10), (1, 1)),  # all levels: 10 to 1
        )
        self.short = nn.Sequential(*_pointwise(), *_over_time(BRANCH_FILTERS, 3))
        self.long = nn.Sequential(*_pointwise(), *_over_time(BRANCH_FILTERS, 5))
        self.pooled = nn.Sequential(nn.MaxPool2d((3, 1), stride=(1, 1), padding=(1, 0)), *_pointwise())
        self.lstm = nn.LSTM(3 * BRANCH_FILTERS, UNITS)
        self.head = nn.Linear(UNITS, CLASSES)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, SLOPE)  # PyTorch's default all but silences 15 layers

    def forward(self, window: Tensor) -> Tensor:
        """(B, L, F) -> class probabilities (B, C)."""
        x = self.convolutions(window.unsqueeze(1))  # (B, 16, L, 1)
        x = cat([self.short(x), self.long(x), self.pooled(x)], dim=1)  # (B, 96, L, 1)
        x, _ = self.lstm(x.squeeze(-1).permute(2, 0, 1))  # (L, B, 64)
        return softmax(self.head(x[-1]), dim=-1)


def _block(channels: int, kernel: tuple[int, int], stride: tuple[int, int]) -> list[nn.Module]:
    """One convolution over columns, two over four time steps."""
    return [
        nn.Conv2d(channels, FILTERS, kernel, stride),
        nn.LeakyReLU(SLOPE),
        *_over_time(FILTERS, 4),
        *_over_time(FILTERS, 4),
    ]


def _over_time(filters: int, steps: int) -> list[nn.Module]:
    """A convolution over `steps` time steps that keeps their number."""
    return [nn.Conv2d(filters, filters, (steps, 1), padding="same"), nn.LeakyReLU(SLOPE)]


def _pointwise() -> list[nn.Module]:
    return [nn.Conv2d(FILTERS, BRANCH_FILTERS, (1, 1)), nn.LeakyReLU(SLOPE)]
