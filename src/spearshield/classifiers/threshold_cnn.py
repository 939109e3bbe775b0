"""A CNN behind a steep threshold of pixels, for robust networks on MNIST and similar images.

The threshold follows an observation of Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards Deep
Learning Models Resistant to Adversarial Attacks", 2018, https://arxiv.org/abs/1706.06083; see
:mod:`spearshield.nets.threshold`. The layers are new here.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from spearshield.architecture import Architecture, check_size
from spearshield.nets.threshold import check_thresholds, thresholded
from spearshield.ranges import require
from spearshield.types import Shape


@dataclass(frozen=True)
class ThresholdCNN(Architecture):
    """A threshold, four convolutions, two of them strided, and two linear layers.

    Images from 4x4 pixels.

    Args:
        width: Channels of the first convolution; the others have two, four and four times as many.
        thresholds: Thresholds of the pixels, on the [0, 1] pixel scale; each is a channel.
        ramp: Length of the steep part of the threshold, on the same scale.
        leak: Slope of the threshold outside the steep part.

    Raises:
        ValueError: A number is out of range.
    """

    width: int = 32
    thresholds: tuple[float, ...] = (0.5,)
    ramp: float = 0.1
    leak: float = 0.01

    def __post_init__(self) -> None:
        require(self, "width", at_least=1)
        check_thresholds(self)

    def build(self, shape: Shape, classes: int) -> nn.Module:
        check_size(shape, 4)
        channels, h, w = shape
        threshold, channels = thresholded(channels, self.thresholds, self.ramp, self.leak)
        one, two, four = self.width, 2 * self.width, 4 * self.width
        rows, columns = ((side + 3) // 4 for side in (h, w))
        return nn.Sequential(
            OrderedDict(
                threshold=threshold,
                conv1=nn.Conv2d(channels, one, 5, 2, 2),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(one, two, 3, padding=1),
                relu2=nn.ReLU(),
                conv3=nn.Conv2d(two, four, 3, 2, 1),
                relu3=nn.ReLU(),
                conv4=nn.Conv2d(four, four, 3, padding=1),
                relu4=nn.ReLU(),
                flatten=nn.Flatten(),
                linear1=nn.Linear(four * rows * columns, 8 * self.width),
                relu5=nn.ReLU(),
                linear2=nn.Linear(8 * self.width, classes),
            )
        )
