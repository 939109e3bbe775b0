"""FGSM: the fast gradient sign method, one signed gradient step.

Goodfellow, Shlens, Szegedy, "Explaining and Harnessing Adversarial Examples", 2015.
https://arxiv.org/abs/1412.6572
"""

from __future__ import annotations

from dataclasses import dataclass

from spearshield.adversary import Attack, loss_gradient
from spearshield.losses.margin import cross_entropy
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels


@dataclass(frozen=True)
class FGSM(Attack):
    """One step of length ``eps`` that increases the cross-entropy.

    In Linf the step is ``eps * sign(gradient)`` (section 4). In L2 it is ``eps`` times the
    normalised gradient, also called the fast gradient method (FGM).
    """

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        gradient = loss_gradient(model, x, y, cross_entropy).gradient
        return self.threat.step(x, x, gradient, self.threat.eps)
