"""Layers that several specimens share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad, relu

from spearshield.types import Images, Mask


class Layer(nn.Module):
    """A layer that applies a function and has no parameters."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Residual(nn.Module):
    """A residual block of two convolutions with batch normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return relu(x + self.branch(x))


def blur(x: Images) -> Images:
    """A weighted mean of each pixel and its eight neighbours: a smooth denoiser without a fault."""
    side = torch.tensor([0.15, 0.7, 0.15], device=x.device)
    kernel = (side[:, None] * side).expand(x.shape[1], 1, 3, 3)
    padded = pad(x, (1, 1, 1, 1), mode="replicate")
    x_hat: Images = conv2d(padded, kernel.to(x), groups=x.shape[1]).clamp(0, 1)
    return x_hat


def rounded(x: Images, levels: int = 4) -> Images:
    """The nearest of ``levels`` equally spaced grey levels, with a gradient of zero."""
    return (x * (levels - 1)).round() / (levels - 1)


def straight_through(x: Images, levels: int = 4) -> Images:
    """The nearest of ``levels`` equally spaced grey levels, with the gradient of the identity."""
    return x + (rounded(x, levels) - x).detach()


def off_grid(x: Images) -> Mask:
    """True for each image with a pixel between 8-bit levels."""
    x = x.detach()
    between: Mask = (255 * x - (255 * x).round()).abs().flatten(1).amax(1) > 1e-3
    return between


class ScaledGradient(nn.Module):
    """The identity, with its gradient multiplied by ``factor``."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Images) -> Images:
        x_hat = x.clone()
        if x_hat.requires_grad:
            x_hat.register_hook(lambda gradient: self.factor * gradient)  # type: ignore[no-untyped-call]
        return x_hat
