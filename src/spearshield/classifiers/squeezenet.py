"""SqueezeNet 1.1: a CNN with the accuracy of AlexNet and a fiftieth of its weights.

Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer, "SqueezeNet: AlexNet-level accuracy with 50x
fewer parameters and <0.5MB model size", 2016, https://arxiv.org/abs/1602.07360; version 1.1:
https://github.com/forresti/SqueezeNet. The weights have the names of torchvision.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spearshield.architecture import Architecture, Normalize, check_size
from spearshield.types import Shape


@dataclass(frozen=True)
class SqueezeNet(Architecture):
    """Eight fire modules; 1,235,496 weights for 1,000 classes.

    Images from 17x17 pixels; published weights expect 224x224. As published, a logit is the mean of
    rectified scores: it is never negative, and has no gradient where all its scores are zero.
    """

    def build(self, shape: Shape, classes: int) -> nn.Module:
        check_size(shape, 17)
        features = nn.Sequential(
            nn.Conv2d(shape[0], 64, 3, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(64, 16, 64),
            Fire(128, 16, 64),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(128, 32, 128),
            Fire(256, 32, 128),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(256, 48, 192),
            Fire(384, 48, 192),
            Fire(384, 64, 256),
            Fire(512, 64, 256),
        )
        classifier = nn.Sequential(
            nn.Dropout(), nn.Conv2d(512, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        return nn.Sequential(
            OrderedDict(
                normalize=Normalize.imagenet(shape[0]),
                features=features,
                classifier=classifier,
                flatten=nn.Flatten(),
            )
        )


class Fire(nn.Module):
    """A reducing 1x1 convolution, followed by parallel 1x1 and 3x3 convolutions.

    Args:
        squeezed: Output channels of the reducing convolution.
        expanded: Output channels of each of the parallel convolutions.
    """

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c_out h w"]:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], 1).relu()
