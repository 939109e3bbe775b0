"""AlexNet: five convolutions and three linear layers, reduced for small images.

Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks",
2012, https://doi.org/10.1145/3065386; one tower: Krizhevsky, "One weird trick for parallelizing
convolutional neural networks", 2014, https://arxiv.org/abs/1404.5997. The weights have the names of
torchvision, https://github.com/pytorch/vision.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from spearshield.architecture import Architecture, Normalize, check_size
from spearshield.types import Shape

LARGE = 128
"""Smallest side, in pixels, of images for which the published network is built."""


@dataclass(frozen=True)
class AlexNet(Architecture):
    """Five convolutions and three linear layers, in one of two forms.

    Images from 128x128 pixels: the one-tower network, with 61,100,840 weights for 1,000 classes.

    Images from 15x15 to below 128x128 pixels, such as MNIST and CIFAR: our reduction, with the same
    layers, half the channels, a first convolution of 5x5 with stride 1 in place of 11x11 with
    stride 4, and 512 hidden units in place of 4,096. Papers that report AlexNet on MNIST seldom
    describe their reduction.
    """

    def build(self, shape: Shape, classes: int) -> nn.Module:
        check_size(shape, 15)
        channels, h, w = shape
        if min(h, w) >= LARGE:
            first = nn.Conv2d(channels, 64, 11, 4, padding=2)
            return _alexnet(first, (192, 384, 256), (6, 6), 4096, classes)
        first = nn.Conv2d(channels, 32, 5, padding=2)
        pooled = ((h + 1) // 8 - 1, (w + 1) // 8 - 1)
        return _alexnet(first, (96, 192, 128), pooled, 512, classes)


def _alexnet(
    first: nn.Conv2d,
    widths: tuple[int, int, int],
    pooled: tuple[int, int],
    hidden: int,
    classes: int,
) -> nn.Module:
    """The network with the given first convolution.

    Args:
        widths: Channels of the second, third, and of the fourth and fifth convolution.
        pooled: Height and width of the features that enter the linear layers.
    """
    second, third, last = widths
    features = nn.Sequential(
        first,
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(first.out_channels, second, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(second, third, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(third, last, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(last, last, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
    )
    classifier = nn.Sequential(
        nn.Dropout(),
        nn.Linear(last * pooled[0] * pooled[1], hidden),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )
    return nn.Sequential(
        OrderedDict(
            normalize=Normalize.imagenet(first.in_channels),
            features=features,
            avgpool=nn.AdaptiveAvgPool2d(pooled),
            flatten=nn.Flatten(),
            classifier=classifier,
        )
    )
