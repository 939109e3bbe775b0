"""RAND+FGSM: a random step, then a signed gradient step.

Tramer, Kurakin, Papernot, Goodfellow, Boneh, McDaniel, "Ensemble Adversarial Training: Attacks and
Defenses", 2018. https://arxiv.org/abs/1705.07204
"""

from __future__ import annotations

from dataclasses import dataclass

from spearshield.adversary import Attack, loss_gradient
from spearshield.losses.margin import cross_entropy
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels


@dataclass(frozen=True)
class RandFGSM(Attack):
    """A step ``alpha * sign(N(0, I))``, then FGSM with the remaining budget ``eps - alpha``.

    The random step escapes the flat region that gradient masking creates around the clean image.
    The paper defines the attack in Linf. In L2 the random step has length ``alpha`` in a uniformly
    random direction, and the second step follows the normalised gradient.

    Args:
        alpha: Length of the random step in the norm of ``threat``, on the [0, 1] scale, between 0
            and ``eps``; ``None``: ``eps / 6``, as 0.05 of 0.3 in the tables of Defense-GAN.

    Raises:
        ValueError: ``alpha`` is out of range.
    """

    alpha: float | None = None

    def __post_init__(self) -> None:
        require(self, "alpha", above=0, below=self.threat.eps)

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        eps = self.threat.eps
        alpha = eps / 6 if self.alpha is None else self.alpha
        # The steepest step along Gaussian noise is its sign, or in L2 a uniformly random direction.
        start = self.threat.step(x, x, rng.normal(x.shape[1:]), alpha)
        gradient = loss_gradient(model, start, y, cross_entropy).gradient
        return self.threat.step(start, x, gradient, eps - alpha)
