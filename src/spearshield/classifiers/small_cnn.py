"""Small strided CNN of papers on provable and fast robust training.

Wong, Kolter, "Provable Defenses against Adversarial Examples via the Convex Outer Adversarial
Polytope", 2018, https://arxiv.org/abs/1711.00851, section 5; also in Wong, Rice, Kolter, "Fast is
better than free", 2020, https://arxiv.org/abs/2001.03994. The weights have the names of
the authors' code, https://github.com/locuslab/convex_adversarial and .../fast_adversarial.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from spearshield.architecture import Architecture, check_size
from spearshield.types import Shape


@dataclass(frozen=True)
class SmallCNN(Architecture):
    """Two 4x4 convolutions with stride 2 and two linear layers.

    Pixels are not normalised. Images from 4x4 pixels. 166,406 weights for MNIST.
    """

    def build(self, shape: Shape, classes: int) -> nn.Module:
        check_size(shape, 4)
        channels, h, w = shape
        return nn.Sequential(
            nn.Conv2d(channels, 16, 4, 2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 4, 2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * (h // 4) * (w // 4), 100),
            nn.ReLU(),
            nn.Linear(100, classes),
        )
