"""CNN7: the seven layers with batch normalisation of papers on certified training.

Shi, Wang, Zhang, Yi, Hsieh, "Fast Certified Robust Training with Short Warmup", 2021,
https://arxiv.org/abs/2103.17134.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from spearshield.architecture import Architecture, check_size
from spearshield.ranges import require
from spearshield.types import Shape


@dataclass(frozen=True)
class CNN7(Architecture):
    """Five padded 3x3 convolutions, the third with stride 2, and two linear layers.

    All but the last layer are normalised by batch and rectified. Images from 2x2 pixels.

    Args:
        width: Channels of the first two convolutions; the other three have twice as many. The
            first linear layer has eight times as many outputs.

    Raises:
        ValueError: ``width`` is below 1.
    """

    width: int = 64

    def __post_init__(self) -> None:
        require(self, "width", at_least=1)

    def build(self, shape: Shape, classes: int) -> nn.Module:
        check_size(shape, 2)
        channels, h, w = shape
        one, two, eight = self.width, 2 * self.width, 8 * self.width
        rows, columns = ((side + 1) // 2 for side in (h, w))
        return nn.Sequential(
            *convolution(channels, one),
            *convolution(one, one),
            *convolution(one, two, stride=2),
            *convolution(two, two),
            *convolution(two, two),
            nn.Flatten(),
            nn.Linear(two * rows * columns, eight),
            nn.BatchNorm1d(eight),
            nn.ReLU(),
            nn.Linear(eight, classes),
        )


def convolution(channels: int, maps: int, stride: int = 1) -> tuple[nn.Module, ...]:
    """A padded 3x3 convolution, batch normalisation, ReLU."""
    return nn.Conv2d(channels, maps, 3, stride, 1), nn.BatchNorm2d(maps), nn.ReLU()
