"""RAND+FGSM: a random step, then a signed gradient step.

Tramer, Kurakin, Papernot, Goodfellow, Boneh, McDaniel, "Ensemble Adversarial Training: Attacks and
Defenses", 2018. https://arxiv.org/abs/1705.07204
"""

from __future__ import annotations

from dataclasses import dataclass

from spearshield.attack import Attack, loss_gradient
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels


@dataclass(frozen=True)
class RandFGSM(Attack):
    """A step ``alpha * sign(N(0, I))``, then FGSM with what is left of the budget, ``eps - alpha``.

    The random step leaves the flat spot that a masked gradient makes around the clean image. The
    paper knows the L-inf norm only; in the L2 norm the random step goes ``alpha`` in a uniformly
    random direction, and the second step along the normalised gradient.

    Args:
        alpha: Length of the random step, in the norm of ``threat`` and on the [0, 1] scale;
            ``None``: a sixth of ``eps``, as the 0.05 of 0.3 that Defense-GAN's tables use.

    Raises:
        ValueError: ``alpha`` is not between 0 and ``eps``.
    """

    alpha: float | None = None

    def __post_init__(self) -> None:
        if self.alpha is not None and not 0 < self.alpha < self.threat.eps:
            raise ValueError(
                f"alpha must be between 0 and eps = {self.threat.eps}, got {self.alpha}"
            )

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        threat = self.threat
        alpha = threat.eps / 6 if self.alpha is None else self.alpha
        # The unit step along normal noise is its sign, or in L2 a uniformly random direction.
        start = threat.project(x + alpha * threat.steepest_step(rng.normal(x.shape[1:])), x)
        gradient, _ = loss_gradient(model, start, y)
        return threat.project(start + (threat.eps - alpha) * threat.steepest_step(gradient), x)
