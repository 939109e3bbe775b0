"""The attacker network of L2L: an image and its gradient to a perturbation, of images of any size.

Jiang, Chen, Shi, Dai, Zhao, "Learning to Defend by Learning to Attack", 2021,
https://proceedings.mlr.press/v130/jiang21a.html; layers as the slim attacker of the authors' code,
https://github.com/YuyangShi/Learning-to-Defend-by-Learning-to-Attack.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spearshield.nets.adv_gan import padded
from spearshield.nets.wang_yu import normalised
from spearshield.types import Images


class L2LAttacker(nn.Module):
    """A strided convolution, two residual blocks, a deconvolution, and a last convolution.

    The last convolution also receives the input. Its output, times a trained factor, goes through
    a tanh.

    Args:
        channels: Channels of an image; the gradient has as many.
        width: Channels of the first convolution; the blocks have twice as many inside.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        last = max(1, width // 8)
        self.body = nn.Sequential(
            *normalised(nn.Conv2d(2 * channels, width, 3, 2, 1, bias=False), width),
            ResidualPReLU(width, 2 * width),
            ResidualPReLU(2 * width, width),
            nn.BatchNorm2d(width, affine=False),
            *normalised(nn.ConvTranspose2d(width, last, 4, 2, 1, bias=False), last),
        )
        self.last = nn.Conv2d(last + 2 * channels, channels, 3, padding=1, bias=False)
        self.factor = nn.Parameter(torch.tensor(5.0))

    def forward(self, x: Images, gradient: Images) -> Images:
        """A perturbation in [-1, 1] of the shape of ``x``.

        Args:
            x: Images in [0, 1].
            gradient: Gradients of their loss, scaled to [-1, 1].
        """
        h, w = x.shape[2:]
        maps = padded(torch.cat([x, gradient], 1))
        output: Images = self.factor * self.last(torch.cat([self.body(maps), maps], 1))
        return output.tanh()[:, :, :h, :w]


class ResidualPReLU(nn.Module):
    """Batch normalisation, PReLU and a convolution, twice, added to a 1x1 convolution."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(before, affine=False),
            nn.PReLU(),
            nn.Conv2d(before, after, 3, padding=1),
            nn.BatchNorm2d(after, affine=False),
            nn.PReLU(),
            nn.Conv2d(after, after, 3, padding=1),
        )
        self.shortcut = nn.Conv2d(before, after, 1)

    def forward(self, maps: Tensor) -> Tensor:
        output: Tensor = self.body(maps) + self.shortcut(maps)
        return output
