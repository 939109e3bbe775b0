"""Bit-depth reduction: pixels rounded to few levels.

Xu, Evans, Qi, "Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks", 2018,
https://arxiv.org/abs/1704.01155; as a defence by itself in Guo, Rana, Cisse, van der Maaten,
"Countering Adversarial Images using Input Transformations", 2018, https://arxiv.org/abs/1711.00117.

    x_hat = round((2^bits - 1) * x) / (2^bits - 1)

Rounding has no useful gradient. The differentiable approximation for BPDA replaces round(t) by
t - sin(2 pi t) / (2 pi), which agrees with it at whole numbers. Its slope there is zero, so at a
black or white pixel, or with 8 bits at each pixel of an 8-bit image, it needs a random start.

Differences from the paper. None in the transformation; the detector of the first paper, which
compares predictions on squeezed images, is not included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from spearshield.method import Paper, Task
from spearshield.ranges import require
from spearshield.training.transformation import Transformation
from spearshield.types import Images


@dataclass(frozen=True)
class BitDepth(Transformation):
    """Pixels with fewer bits.

    Args:
        bits: Bits of each pixel, from 1 to 8.

    Raises:
        ValueError: ``bits`` is out of range.
    """

    paper = Paper(
        "Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks",
        "Xu, Weilin and Evans, David and Qi, Yanjun",
        2018,
        "https://arxiv.org/abs/1704.01155",
    )

    bits: int = 3

    def __post_init__(self) -> None:
        require(self, "bits", at_least=1, at_most=8)

    def purifier(self, task: Task) -> Rounding:  # noqa: ARG002
        return Rounding(2**self.bits - 1)


class Rounding(nn.Module):
    """Pixels rounded to multiples of ``1 / levels``."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Images) -> Images:
        """The rounded images; their gradient is zero."""
        return torch.round(self.levels * x) / self.levels

    def differentiable_approximation(self, x: Images) -> Images:
        """A smooth curve that meets the steps at their centres."""
        t = self.levels * x
        return (t - torch.sin(2 * math.pi * t) / (2 * math.pi)) / self.levels
