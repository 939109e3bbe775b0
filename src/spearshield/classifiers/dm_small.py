"""DM-small: the small network of papers on interval bound propagation.

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
class DMSmall(Architecture):
    """Two unpadded 4x4 convolutions, the first with stride 2, and two linear layers.

    Images from 10x10 pixels. 329,606 weights for MNIST.
    """

    def build(self, shape: Shape, classes: int) -> nn.Module:
        check_size(shape, 10)
        channels, h, w = shape
        rows, columns = ((side - 4) // 2 - 2 for side in (h, w))
        return nn.Sequential(
            nn.Conv2d(channels, 16, 4, 2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * rows * columns, 100),
            nn.ReLU(),
            nn.Linear(100, classes),
        )
