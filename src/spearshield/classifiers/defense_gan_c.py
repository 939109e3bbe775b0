"""Model C of Defense-GAN: a 3x3 and a 5x5 convolution and two linear layers.

Samangouei, Kabkab, Chellappa, "Defense-GAN: Protecting Classifiers Against Adversarial Attacks
Using Generative Models", 2018, https://arxiv.org/abs/1805.06605, appendix.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from spearshield.architecture import Architecture
from spearshield.nets.defense_gan_models import two_convolutions
from spearshield.types import Shape


@dataclass(frozen=True)
class DefenseGANC(Architecture):
    """Convolutions 128x3x3 and 64x5x5 of stride 2, 128 hidden units; images from 5x5.

    Args:
        keep_probability: True: the dropout numbers are probabilities of keeping a value, as in the
            authors' code. False: probabilities of dropping it, as in the paper.
    """

    keep_probability: bool = False

    def build(self, shape: Shape, classes: int) -> nn.Module:
        return two_convolutions(shape, classes, 128, 3, self.keep_probability)
