"""The three kinds of networks among Defense-GAN's classifiers A to F.

Samangouei, Kabkab, Chellappa, "Defense-GAN: Protecting Classifiers Against Adversarial Attacks
Using Generative Models", 2018, https://arxiv.org/abs/1805.06605, appendix; padding, strides and
initial weights as in the authors' release, https://github.com/kabkabm/defensegan.

The paper writes ``Dropout(0.2)``. The release passes this number to TensorFlow 1, where it is the
probability to *keep* a value; elsewhere it is usually the probability to drop one. The models
support both readings.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from spearshield.architecture import check_size
from spearshield.nets.same_padding import same_conv
from spearshield.types import Shape


def dropout(number: float, keep_probability: bool) -> nn.Module:
    """``Dropout(number)``, where ``number`` is the probability to keep a value or to drop it."""
    return nn.Dropout(1 - number if keep_probability else number)


def two_convolutions(
    shape: Shape, classes: int, width: int, kernel: int, keep_probability: bool
) -> nn.Module:
    """Models A and C.

    Args:
        width: Channels of the first convolution.
        kernel: Side of its kernel.
    """
    check_size(shape, 5)
    channels, h, w = shape
    pad, conv1 = same_conv(channels, width, kernel)
    return unit_norm(
        pad=pad,
        conv1=conv1,
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(width, 64, 5, 2),
        relu2=nn.ReLU(),
        flatten=nn.Flatten(),
        dropout1=dropout(0.25, keep_probability),
        fc1=nn.Linear(64 * ((h - 3) // 2) * ((w - 3) // 2), 128),
        relu3=nn.ReLU(),
        dropout2=dropout(0.5, keep_probability),
        fc2=nn.Linear(128, classes),
    )


def three_convolutions(shape: Shape, classes: int, first: nn.Module, last: nn.Module) -> nn.Module:
    """Models B and F.

    Args:
        first: Dropout of pixels, or the identity.
        last: Dropout before the linear layer, or the identity.
    """
    check_size(shape, 27)
    channels, h, w = shape
    pad, conv1 = same_conv(channels, 64, 8, 2)
    rows, columns = (((side + 1) // 2 - 4) // 2 - 4 for side in (h, w))
    return unit_norm(
        dropout1=first,
        pad=pad,
        conv1=conv1,
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(64, 128, 6, 2),
        relu2=nn.ReLU(),
        conv3=nn.Conv2d(128, 128, 5),
        relu3=nn.ReLU(),
        dropout2=last,
        flatten=nn.Flatten(),
        fc=nn.Linear(128 * rows * columns, classes),
    )


def perceptron(shape: Shape, classes: int, hidden: nn.Module) -> nn.Module:
    """Models D and E.

    Args:
        hidden: Dropout between the two hidden layers, or the identity.
    """
    channels, h, w = shape
    return unit_norm(
        flatten=nn.Flatten(),
        fc1=nn.Linear(channels * h * w, 200),
        relu1=nn.ReLU(),
        dropout=hidden,
        fc2=nn.Linear(200, 200),
        relu2=nn.ReLU(),
        fc3=nn.Linear(200, classes),
    )


def unit_norm(**layers: nn.Module) -> nn.Module:
    """The layers in their order, with Gaussian initial weights of unit L2 norm per output unit."""
    network = nn.Sequential(OrderedDict(layers))
    with torch.no_grad():
        for values in network.parameters():
            if values.dim() == 1:
                values.zero_()
            else:
                rows = values.normal_().flatten(1)
                rows /= torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return network
