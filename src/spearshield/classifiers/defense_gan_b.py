"""Model B of Defense-GAN: pixel dropout, three convolutions and a linear layer.

Samangouei, Kabkab, Chellappa, "Defense-GAN: Protecting Classifiers Against Adversarial Attacks
Using Generative Models", 2018, https://arxiv.org/abs/1805.06605, appendix.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from spearshield.architecture import Architecture
from spearshield.nets.defense_gan_models import dropout, three_convolutions
from spearshield.types import Shape


@dataclass(frozen=True)
class DefenseGANB(Architecture):
    """Convolutions 64x8x8 and 128x6x6 of stride 2 and 128x5x5; images from 27x27.

    Args:
        keep_probability: True: the dropout numbers are probabilities of keeping a value, as in the
            authors' code. False: probabilities of dropping it, as in the paper.
    """

    keep_probability: bool = False

    def build(self, shape: Shape, classes: int) -> nn.Module:
        first = dropout(0.2, self.keep_probability)
        return three_convolutions(shape, classes, first, dropout(0.5, self.keep_probability))
