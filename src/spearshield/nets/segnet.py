"""SegNet: an autoencoder that unpools with the positions of the encoder's maxima.

Badrinarayanan, Kendall, Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder Architecture for
Image Segmentation", 2017, https://arxiv.org/abs/1511.00561; layers as in
https://github.com/spalaciob/s2snets-reconstruction. The encoder has the convolutions of VGG16:
Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015,
https://arxiv.org/abs/1409.1556.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, max_unpool2d

from spearshield.architecture import Normalize
from spearshield.types import Images

VGG16 = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))
"""Channels of the convolutions of each stage, in units of the first width, and their number."""

Positions = list[tuple[Tensor, torch.Size]]
"""The positions of the maxima of each stage, and the size of its maps before pooling."""


class Encoder(nn.Module):
    """Stages of 3x3 convolutions with batch normalisation, each followed by 2x2 max-pooling.

    Args:
        channels: Channels of an image.
        width: Channels of the first stage; VGG16 has 64.
        stages: Number of stages, at most five.
    """

    def __init__(self, channels: int, width: int, stages: int) -> None:
        super().__init__()
        self.normalize = Normalize.imagenet(channels)
        widths = [channels, *(width * factor for factor, _ in VGG16[:stages])]
        self.stages = nn.ModuleList(
            convolutions([before, *[after] * count])
            for (before, after), (_, count) in zip(pairwise(widths), VGG16, strict=False)
        )

    def forward(self, x: Images) -> tuple[Tensor, Positions]:
        """The code, and what the decoder needs to unpool it."""
        maps, positions = self.normalize(x), []
        for stage in self.stages:
            maps = stage(maps)
            size = maps.shape[2:]
            maps, indices = max_pool2d(maps, 2, return_indices=True)
            positions.append((indices, size))
        return maps, positions

    def transplant(self, weights: Mapping[str, Tensor]) -> None:
        """Copy the convolutions of a VGG16, in the order of the numbers in their names.

        Args:
            weights: Tensors by name, in any order, among them ``features.<i>.weight`` and
                ``features.<i>.bias`` of torchvision's VGG16, with or without batch normalisation.

        Raises:
            ValueError: The convolutions do not have the shapes of this encoder's.
        """
        own = [layer for layer in self.modules() if isinstance(layer, nn.Conv2d)]
        given = [name for name, value in weights.items() if value.ndim == 4]
        given.sort(key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
        shapes = [tuple(weights[name].shape) for name in given[: len(own)]]
        expected = [tuple(layer.weight.shape) for layer in own]
        if shapes != expected:
            raise ValueError(
                f"the encoder has convolutions of the shapes {expected[0]}, ..., {expected[-1]}, "
                "and the file those of another network; give VGG16 and width=64"
            )
        with torch.no_grad():
            for layer, name in zip(own, given, strict=False):
                layer.weight.copy_(weights[name])
                assert layer.bias is not None
                layer.bias.copy_(weights[name.removesuffix("weight") + "bias"])


class Decoder(nn.Module):
    """The stages of an :class:`Encoder` in reverse; the last layer is a linear 1x1 convolution."""

    def __init__(self, channels: int, width: int, stages: int) -> None:
        super().__init__()
        self.normalize = Normalize.imagenet(channels)
        widths = [width, *(width * factor for factor, _ in VGG16[:stages])]
        counts = [count for _, count in VGG16[:stages]]
        self.stages = nn.ModuleList(
            convolutions([*[widths[i + 1]] * counts[i], widths[i]]) for i in reversed(range(stages))
        )
        self.last = nn.Conv2d(width, channels, 1)

    def forward(self, code: Tensor, positions: Positions) -> Images:
        """The image, not clipped to [0, 1]."""
        maps = code
        for stage, (indices, size) in zip(self.stages, reversed(positions), strict=True):
            maps = stage(max_unpool2d(maps, indices, [2, 2], output_size=list(size)))
        mean, std = self.normalize.mean, self.normalize.std
        x_hat: Images = self.last(maps) * std + mean
        return x_hat


class SegNet(nn.Module):
    """The purifier D(E(x)), clipped to [0, 1].

    In evaluation mode nothing is detached: gradients pass the decoder and the encoder.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.E = encoder
        self.D = decoder

    def forward(self, x: Images) -> Images:
        x_hat: Images = self.D(*self.E(x))
        return x_hat.clamp(0, 1)


def stages_for(side: int) -> int:
    """The largest number of stages that leaves a code of at least 3 pixels, from 1 to 5."""
    return max(k for k in range(1, len(VGG16) + 1) if k == 1 or side >> k >= 3)


def convolutions(widths: list[int]) -> nn.Sequential:
    """3x3 convolutions from each width to the next, with batch normalisation and a ReLU."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)
