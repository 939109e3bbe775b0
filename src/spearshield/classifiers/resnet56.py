"""ResNet-56 for CIFAR, with parameter-free shortcuts.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2015,
https://arxiv.org/abs/1512.03385, section 4.2. Names and normalisation fit the weights of
https://github.com/akamaster/pytorch_resnet_cifar10, which reports 93.62 % on CIFAR-10.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from spearshield.architecture import Architecture
from spearshield.nets.cifar_resnet import PadShortcut, cifar_resnet
from spearshield.types import Shape


@dataclass(frozen=True)
class ResNet56(Architecture):
    """Three stages of 9 blocks with 16, 32 and 64 channels; 853,018 weights for CIFAR-10."""

    def build(self, shape: Shape, classes: int) -> nn.Module:
        return cifar_resnet(shape[0], classes, (16, 32, 64), 9, PadShortcut)
