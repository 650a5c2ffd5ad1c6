"""Raw feature rows to rows of about unit scale, inside the model."""

import torch
from torch import Tensor, nn

from lob.errors import InputError

SMALLEST_SCALE = 1e-6


class Normaliser(nn.Module):
    """clip((x - mean) / scale, -clip, clip), mean and scale per feature from the training part."""

    mean: Tensor  # (F,)
    inverse_scale: Tensor  # (F,)

    def __init__(self, features: int, clip: float) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("inverse_scale", torch.ones(features))

    def set(self, mean: Tensor, scale: Tensor) -> None:
        """Take mean (F,) and scale (F,); a feature that never varies (scale 0) keeps the scale 1."""
        for name, value in (("mean", mean), ("scale", scale)):
            if tuple(value.shape) != tuple(self.mean.shape):
                raise InputError(f"{name} has shape {tuple(value.shape)}; allowed: {tuple(self.mean.shape)}")
            if not bool(torch.isfinite(value).all()):
                raise InputError(f"{name} holds a number that is not finite")
        if bool((scale < 0).any()):
            raise InputError("scale holds a number below 0; allowed: 0 or more")
        varies = scale > SMALLEST_SCALE
        self.mean.copy_(mean)
        self.inverse_scale.copy_(torch.where(varies, 1 / scale.where(varies, torch.ones_like(scale)), 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """(..., F) -> (..., F)."""
        return torch.clamp((x - self.mean) * self.inverse_scale, -self.clip, self.clip)
