"""MobileNetV2 for published weights, with batch normalisation folded into its convolutions.

Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
2018, https://arxiv.org/abs/1801.04381, table 2. Padding and pixel range are those of the
TensorFlow weights of https://github.com/tensorflow/models; names are those of torchvision.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from spearshield.architecture import Architecture, Normalize
from spearshield.nets.same_padding import same_conv
from spearshield.types import Shape

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, blocks and stride of the first block, as in the paper's table 2."""


@dataclass(frozen=True)
class MobileNetV2(Architecture):
    """Seventeen inverted residuals between two convolutions. Pixels are scaled to [-1, 1].

    Meant for published weights. Without batch normalisation it is hard to train from random
    weights.
    """

    def build(self, shape: Shape, classes: int) -> nn.Module:
        width = 32
        features: list[nn.Module] = [_rectified(shape[0], width, 3, 2)]
        for expansion, outputs, blocks, first in STAGES:
            for i in range(blocks):
                stride = first if i == 0 else 1
                features.append(InvertedResidual(width, outputs, stride, expansion))
                width = outputs
        features.append(_rectified(width, 1280, 1))
        network = nn.Sequential(
            OrderedDict(
                normalize=Normalize.symmetric(shape[0]),
                features=nn.Sequential(*features),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                classifier=nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes)),
            )
        )
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
        return network


class InvertedResidual(nn.Module):
    """An expanding 1x1, a depthwise 3x3 and a linear reducing 1x1 convolution.

    The input is added if input and output have the same shape.

    Args:
        expansion: Ratio of the inner channels to ``inputs``. 1: there is no expanding convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        expand = [_rectified(inputs, inner, 1)] if expansion > 1 else []
        depthwise = _rectified(inner, inner, 3, stride, groups=inner)
        self.conv = nn.Sequential(*expand, depthwise, nn.Conv2d(inner, outputs, 1))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c_out h_out w_out"]:
        y: Tensor = self.conv(x)
        return x + y if self.adds else y


def _rectified(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    pad, conv = same_conv(inputs, outputs, kernel, stride, groups)
    return nn.Sequential(OrderedDict([("pad", pad), ("0", conv), ("relu", nn.ReLU6())]))
