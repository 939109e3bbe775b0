"""Any network behind a steep threshold of the pixels, for images that are nearly black and white.

The threshold follows an observation of Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards Deep
Learning Models Resistant to Adversarial Attacks", 2018, https://arxiv.org/abs/1706.06083; see
:mod:`spearshield.nets.threshold`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from spearshield.architecture import Architecture
from spearshield.classifiers.small_cnn import SmallCNN
from spearshield.nets.threshold import Threshold
from spearshield.ranges import check, require
from spearshield.types import Shape


@dataclass(frozen=True)
class Thresholded(Architecture):
    """A fixed threshold of the pixels, and a network on the thresholded pixels, from -1 to 1.

    Args:
        inner: The network. It has a channel for each channel of the image and each threshold.
        thresholds: Thresholds of the pixels, on the [0, 1] pixel scale.
        ramp: Length of the steep part of each threshold, on the same scale.
        leak: Slope outside the steep part.

    Raises:
        ValueError: A number is out of range, or there is no threshold.
    """

    inner: Architecture = SmallCNN()  # noqa: RUF009 - a frozen value
    thresholds: tuple[float, ...] = (0.5,)
    ramp: float = 0.1
    leak: float = 0.01

    def __post_init__(self) -> None:
        if not self.thresholds:
            raise ValueError("thresholds must have at least one number, got none")
        for threshold in self.thresholds:
            check("thresholds", threshold, above=0, below=1)
        require(self, "ramp", above=0)
        require(self, "leak", at_least=0)

    def build(self, shape: Shape, classes: int) -> nn.Module:
        channels, h, w = shape
        inside = (channels * len(self.thresholds), h, w)
        return nn.Sequential(
            OrderedDict(
                threshold=Threshold(self.thresholds, self.ramp, self.leak),
                network=self.inner.build(inside, classes),
            )
        )
