"""CNN of Wang and Yu for MNIST, published with training against a generator of perturbations.

Wang, Yu, "A Direct Approach to Robust Deep Learning Using Adversarial Networks", 2019,
https://arxiv.org/abs/1905.09591; layers as in the authors' code,
https://github.com/whxbergkamp/RobustDL_GAN, which scales pixels to [-1, 1].
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from spearshield.architecture import Architecture, Normalize, check_size
from spearshield.types import Shape


@dataclass(frozen=True)
class WangYuCNN(Architecture):
    """Two convolutions, each with a maximum pool, and one linear layer.

    Images from 4x4 pixels. 83,466 weights for MNIST.
    """

    def build(self, shape: Shape, classes: int) -> nn.Module:
        check_size(shape, 4)
        channels, h, w = shape
        return nn.Sequential(
            OrderedDict(
                normalize=Normalize.symmetric(channels),
                conv1=nn.Conv2d(channels, 32, 5, padding=2),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(32, 64, 5, padding=2),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                linear=nn.Linear(64 * (h // 4) * (w // 4), classes),
            )
        )
