"""Generators of Wang and Yu, for images of any size.

Wang, Yu, "A Direct Approach to Robust Deep Learning Using Adversarial Networks", 2019,
https://arxiv.org/abs/1905.09591; layers as in the authors' code,
https://github.com/whxbergkamp/RobustDL_GAN. Images in [0, 1] are scaled to [-1, 1] first. Two
differences: strided layers pad both sides alike, and the initial weights are those of PyTorch.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from spearshield.nets.adv_gan import padded
from spearshield.nets.cifar_resnet import projection, stage
from spearshield.threat import ThreatModel
from spearshield.types import Images

GENERATORS = ("convolutional", "residual")


class WangYuGenerator(nn.Module):
    """A generator that outputs adversarial images, ``x + eps * G(x)`` inside the threat model.

    Args:
        kind: ``convolutional``: two strided convolutions, a deconvolution, and a deconvolution with
            a tanh; the paper's for MNIST, with a width of 64. ``residual``: a convolution, two
            strided ones, six residual blocks, two deconvolutions, and a convolution with a tanh;
            the paper's for SVHN and CIFAR-10, with a width of 64.
        channels: Channels of an image.
        width: Channels of the first convolution.
        more: Channels of further inputs.
    """

    def __init__(
        self, kind: str, channels: int, width: int, threat: ThreatModel, more: int = 0
    ) -> None:
        super().__init__()
        build = {"convolutional": convolutional, "residual": residual}[kind]
        self.threat = threat
        self.body = nn.Sequential(*build(channels + more, channels, width), nn.Tanh())

    def forward(self, x: Images, *more: Tensor, share: float = 1.0) -> Images:
        """Adversarial images of ``x``.

        Args:
            more: Further inputs of shape (n, m, h, w), at the scale of [-1, 1].
            share: Factor of eps.
        """
        h, w = x.shape[2:]
        output = self.body(padded(torch.cat([2 * x - 1, *more], 1)))[:, :, :h, :w]
        threat = replace(self.threat, eps=share * self.threat.eps)
        return threat.project(x + threat.eps * output, x)


def convolutional(channels: int, outputs: int, width: int) -> list[nn.Module]:
    """The layers of the paper's generator for MNIST."""
    return [
        *normalised(nn.Conv2d(channels, width, 5, 2, 2), width),
        *normalised(nn.Conv2d(width, 2 * width, 5, 2, 2), 2 * width),
        *normalised(nn.ConvTranspose2d(2 * width, width, 5, 2, 2, 1, bias=False), width),
        nn.ConvTranspose2d(width, outputs, 5, 2, 2, 1, bias=False),
    ]


def residual(channels: int, outputs: int, width: int) -> list[nn.Module]:
    """The layers of the paper's generator for colour images."""
    one, two, four = width, 2 * width, 4 * width
    return [
        *normalised(nn.Conv2d(channels, one, 3, padding=1, bias=False), one),
        *normalised(nn.Conv2d(one, two, 3, 2, 1, bias=False), two),
        *normalised(nn.Conv2d(two, four, 3, 2, 1, bias=False), four),
        stage(four, four, 6, 1, projection(four, four, 1)),
        *normalised(nn.ConvTranspose2d(four, two, 3, 2, 1, 1, bias=False), two),
        *normalised(nn.ConvTranspose2d(two, one, 3, 2, 1, 1, bias=False), one),
        nn.Conv2d(one, outputs, 3, padding=1),
    ]


def normalised(layer: nn.Module, width: int) -> list[nn.Module]:
    """The layer with batch normalisation and a ReLU."""
    return [layer, nn.BatchNorm2d(width), nn.ReLU()]
