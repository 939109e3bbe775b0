"""Model D of Defense-GAN: two hidden layers of 200 units with dropout between them.

Samangouei, Kabkab, Chellappa, "Defense-GAN: Protecting Classifiers Against Adversarial Attacks
Using Generative Models", 2018, https://arxiv.org/abs/1805.06605, appendix.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from spearshield.architecture import Architecture
from spearshield.nets.defense_gan_models import dropout, perceptron
from spearshield.types import Shape


@dataclass(frozen=True)
class DefenseGAND(Architecture):
    """Linear layers of 200, 200 and ``classes`` units; images of any size.

    ``Dropout(0.5)`` keeps as many values as it drops, so there is no ``keep_probability``.
    """

    def build(self, shape: Shape, classes: int) -> nn.Module:
        return perceptron(shape, classes, dropout(0.5, keep_probability=False))
