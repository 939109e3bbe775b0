"""FGSM: one signed gradient step.

Goodfellow, Shlens, Szegedy, "Explaining and Harnessing Adversarial Examples", 2015.
https://arxiv.org/abs/1412.6572
"""

from __future__ import annotations

from dataclasses import dataclass

from spearshield.attack import Attack, loss_gradient
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels


@dataclass(frozen=True)
class FGSM(Attack):
    """One step of length ``eps`` up the cross-entropy.

    In the L-inf norm that is ``eps * sign(gradient)``; in the L2 norm ``eps`` times the normalised
    gradient, which others call the fast gradient method (FGM).
    """

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        gradient, _ = loss_gradient(model, x, y)
        return self.threat.project(x + self.threat.eps * self.threat.steepest_step(gradient), x)
