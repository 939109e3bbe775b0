"""Model F of Defense-GAN: model B without dropout.

Samangouei, Kabkab, Chellappa, "Defense-GAN: Protecting Classifiers Against Adversarial Attacks
Using Generative Models", 2018, https://arxiv.org/abs/1805.06605, appendix.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from spearshield.architecture import Architecture
from spearshield.nets.defense_gan_models import three_convolutions
from spearshield.types import Shape


@dataclass(frozen=True)
class DefenseGANF(Architecture):
    """Convolutions 64x8x8 and 128x6x6 of stride 2 and 128x5x5; images from 27x27."""

    def build(self, shape: Shape, classes: int) -> nn.Module:
        return three_convolutions(shape, classes, nn.Identity(), nn.Identity())
