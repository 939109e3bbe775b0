"""MobileNet V1 for published weights, with batch normalisation folded into its convolutions.

Howard, Zhu, Chen, Kalenichenko, Wang, Weyand, Andreetto, Adam, "MobileNets: Efficient
Convolutional Neural Networks for Mobile Vision Applications", 2017,
https://arxiv.org/abs/1704.04861, table 1. Padding and pixel range are those of the TensorFlow
weights of https://github.com/tensorflow/models.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from spearshield.architecture import Architecture, Normalize
from spearshield.nets.same_padding import same_conv
from spearshield.ranges import require
from spearshield.types import Shape

PAIRS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)
"""Channels, at width 1, and stride of each depthwise convolution with its 1x1 convolution."""


@dataclass(frozen=True)
class MobileNetV1(Architecture):
    """27 convolutions, every second one depthwise. Pixels are scaled to [-1, 1].

    Meant for published weights. Without batch normalisation it is hard to train from random
    weights.

    Args:
        width: Factor of the numbers of channels.

    Raises:
        ValueError: ``width`` is below 1/32, which leaves no channel.
    """

    width: float = 0.75

    def __post_init__(self) -> None:
        require(self, "width", at_least=1 / 32)

    def build(self, shape: Shape, classes: int) -> nn.Module:
        width = int(32 * self.width)
        convs = [same_conv(shape[0], width, 3, 2)]
        for channels, stride in PAIRS:
            outputs = int(channels * self.width)
            convs.append(same_conv(width, width, 3, stride, groups=width))
            convs.append(same_conv(width, outputs, 1))
            width = outputs
        layers = OrderedDict[str, nn.Module](normalize=Normalize.symmetric(shape[0]))
        for i, (pad, conv) in enumerate(convs):
            nn.init.kaiming_normal_(conv.weight)
            layers |= {f"pad{i}": pad, f"conv{i}": conv, f"relu{i}": nn.ReLU6()}
        layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
        layers["fc"] = nn.Linear(width, classes)
        return nn.Sequential(layers)
