"""DM-medium: the medium network of papers on interval bound propagation.

Gowal et al., "On the Effectiveness of Interval Bound Propagation for Training Verifiably Robust
Models", 2018, https://arxiv.org/abs/1810.12715. Layers as in the authors' code,
https://github.com/deepmind/interval-bound-propagation. The name comes from Zhang et al., "Towards
Stable and Efficient Training of Verifiably Robust Neural Networks", 2019,
https://arxiv.org/abs/1906.06316.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from spearshield.architecture import Architecture, check_size
from spearshield.types import Shape


@dataclass(frozen=True)
class DMMedium(Architecture):
    """Four unpadded convolutions, every second with stride 2, and three linear layers.

    Images from 16x16 pixels. 893,418 weights for MNIST.
    """

    def build(self, shape: Shape, classes: int) -> nn.Module:
        check_size(shape, 16)
        channels, h, w = shape
        rows, columns = (((side - 6) // 2 - 5) // 2 + 1 for side in (h, w))
        return nn.Sequential(
            nn.Conv2d(channels, 32, 3),
            nn.ReLU(),
            nn.Conv2d(32, 32, 4, 2),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(),
            nn.Conv2d(64, 64, 4, 2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * rows * columns, 512),
            nn.ReLU(),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Linear(512, classes),
        )
