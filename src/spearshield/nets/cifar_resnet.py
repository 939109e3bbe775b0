"""Residual networks for small images.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2015,
https://arxiv.org/abs/1512.03385, sections 3.3 and 4.2.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from spearshield.architecture import Normalize

Shortcut = Callable[[int, int, int], nn.Module]
"""Maps input channels, output channels and stride to the shortcut of a block."""


class PadShortcut(nn.Module):
    """Option A: every ``stride``-th pixel, and zeros in the additional channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (outputs - inputs) // 2
        self.after = outputs - inputs - self.before

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c_out h_out w_out"]:
        x = x[:, :, :: self.stride, :: self.stride]
        return pad(x, (0, 0, 0, 0, self.before, self.after))


def projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Option B: a 1x1 convolution and batch normalisation."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation, and a shortcut that is added."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = shortcut

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c_out h_out w_out"]:
        residual = self.bn1(self.conv1(x)).relu()
        residual = self.bn2(self.conv2(residual))
        y: Tensor = (residual + self.shortcut(x)).relu()
        return y


def stage(inputs: int, outputs: int, blocks: int, stride: int, first: nn.Module) -> nn.Sequential:
    """Blocks of one width. Only the first has a stride and the shortcut ``first``."""
    rest = (BasicBlock(outputs, outputs, 1, nn.Identity()) for _ in range(blocks - 1))
    return nn.Sequential(BasicBlock(inputs, outputs, stride, first), *rest)


def cifar_resnet(
    channels: int, classes: int, widths: tuple[int, ...], blocks: int, shortcut: Shortcut
) -> nn.Module:
    """A 3x3 convolution, one stage per width, a mean over pixels, and a linear layer.

    Every stage after the first halves the size.

    Args:
        blocks: Number of blocks per stage.
        shortcut: The shortcut of blocks that change width and size.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        normalize=Normalize.imagenet(channels),
        conv1=nn.Conv2d(channels, widths[0], 3, padding=1, bias=False),
        bn1=nn.BatchNorm2d(widths[0]),
        relu=nn.ReLU(),
        layer1=stage(widths[0], widths[0], blocks, 1, nn.Identity()),
    )
    for i, (inputs, outputs) in enumerate(pairwise(widths), start=2):
        layers[f"layer{i}"] = stage(inputs, outputs, blocks, 2, shortcut(inputs, outputs, 2))
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["linear"] = nn.Linear(widths[-1], classes)
    return nn.Sequential(layers)
