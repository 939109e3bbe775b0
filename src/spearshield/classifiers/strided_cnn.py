"""A CNN with strides in place of pooling, for small grey images.

Springenberg, Dosovitskiy, Brox, Riedmiller, "Striving for Simplicity: The All Convolutional Net",
2014, https://arxiv.org/abs/1412.6806, replaces pooling by strides. The layers are new here.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from spearshield.architecture import Architecture, check_size
from spearshield.ranges import require
from spearshield.types import Shape


@dataclass(frozen=True)
class StridedCNN(Architecture):
    """Four convolutions, two of them strided, and two linear layers.

    Pixels are not normalised. Images from 4x4 pixels.

    Args:
        width: Channels of the first convolution; the others have two, four and four times as many.

    Raises:
        ValueError: ``width`` is below 1.
    """

    width: int = 32

    def __post_init__(self) -> None:
        require(self, "width", at_least=1)

    def build(self, shape: Shape, classes: int) -> nn.Module:
        check_size(shape, 4)
        channels, h, w = shape
        one, two, four = self.width, 2 * self.width, 4 * self.width
        rows, columns = ((side + 3) // 4 for side in (h, w))
        return nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(channels, one, 5, 2, 2),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(one, two, 3, padding=1),
                relu2=nn.ReLU(),
                conv3=nn.Conv2d(two, four, 3, 2, 1),
                relu3=nn.ReLU(),
                conv4=nn.Conv2d(four, four, 3, padding=1),
                relu4=nn.ReLU(),
                flatten=nn.Flatten(),
                linear1=nn.Linear(four * rows * columns, 8 * self.width),
                relu5=nn.ReLU(),
                linear2=nn.Linear(8 * self.width, classes),
            )
        )
