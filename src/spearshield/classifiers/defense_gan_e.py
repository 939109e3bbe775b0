"""Model E of Defense-GAN: model D without dropout.

Samangouei, Kabkab, Chellappa, "Defense-GAN: Protecting Classifiers Against Adversarial Attacks
Using Generative Models", 2018, https://arxiv.org/abs/1805.06605, appendix.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from spearshield.architecture import Architecture
from spearshield.nets.defense_gan_models import perceptron
from spearshield.types import Shape


@dataclass(frozen=True)
class DefenseGANE(Architecture):
    """Linear layers of 200, 200 and ``classes`` units; images of any size."""

    def build(self, shape: Shape, classes: int) -> nn.Module:
        return perceptron(shape, classes, nn.Identity())
