"""The base class of architectures, and the normalisation layer that several of them share."""

from __future__ import annotations

import abc
from dataclasses import dataclass

import torch
from torch import nn

from spearshield.types import Images, Shape


@dataclass(frozen=True)
class Architecture(abc.ABC):
    """The hyper-parameters of a network that maps images in [0, 1] to logits."""

    @abc.abstractmethod
    def build(self, shape: Shape, classes: int) -> nn.Module:
        """The network with fresh weights, drawn from torch's global generator.

        Args:
            shape: Channels, height and width of the images.
            classes: Number of logits.

        Raises:
            ValueError: The architecture does not fit images of this shape.
        """

    def network(self, shape: Shape, classes: int) -> nn.Module:
        """The network for a wrapper that adapts its outputs; they may be of any form and number."""
        return self.build(shape, classes)


class Normalize(nn.Module):
    """Subtracts a mean and divides by a standard deviation, per channel.

    Both are buffers outside the ``state_dict``.

    Args:
        mean: One number per channel, on the [0, 1] pixel scale.
        std: One positive number per channel.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        column = (1, len(mean), 1, 1)
        self.register_buffer("mean", torch.tensor(mean).reshape(column), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(column), persistent=False)

    @staticmethod
    def of(channels: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Normalize:
        """The layer for ``channels`` channels.

        If ``mean`` and ``std`` are for another number of channels, such as 3 for grey images, each
        channel gets their average.
        """
        if channels == len(mean):
            return Normalize(mean, std)
        return Normalize((sum(mean) / len(mean),) * channels, (sum(std) / len(std),) * channels)

    @staticmethod
    def imagenet(channels: int) -> Normalize:
        """The layer with the statistics of the ImageNet training pixels, for published weights."""
        return Normalize.of(channels, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    @staticmethod
    def symmetric(channels: int) -> Normalize:
        """The layer that maps [0, 1] to [-1, 1]."""
        return Normalize((0.5,) * channels, (0.5,) * channels)

    def forward(self, x: Images) -> Images:
        return (x - self.mean) / self.std


def check_size(shape: Shape, smallest: int) -> None:
    """Raise if a side of the images is shorter than ``smallest`` pixels.

    Raises:
        ValueError: Names the size of the images and the smallest size.
    """
    _, h, w = shape
    if min(h, w) < smallest:
        raise ValueError(
            f"this classifier needs images of at least {smallest}x{smallest} pixels, got {h}x{w}; "
            "choose another one, such as m_cnn, or enlarge the images"
        )
