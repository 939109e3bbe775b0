"""ResNet-18 for small images, with a 3x3 stem and no pooling before the first stage.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2015,
https://arxiv.org/abs/1512.03385, table 1. The stem for small images and the names of the weights
are those of https://github.com/kuangliu/pytorch-cifar.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from spearshield.architecture import Architecture
from spearshield.nets.cifar_resnet import cifar_resnet, projection
from spearshield.types import Shape


@dataclass(frozen=True)
class ResNet18(Architecture):
    """Four stages of two blocks with 64 to 512 channels; 11,173,962 weights for CIFAR-10.

    Pixels are normalised by mean and standard deviation of ImageNet.
    """

    def build(self, shape: Shape, classes: int) -> nn.Module:
        return cifar_resnet(shape[0], classes, (64, 128, 256, 512), 2, projection)
