"""MI-FGSM: the momentum iterative fast gradient sign method.

Dong, Liao, Pang, Su, Zhu, Hu, Li, "Boosting Adversarial Attacks with Momentum", 2018.
https://arxiv.org/abs/1710.06081
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from spearshield.adversary import Attack, loss_gradient
from spearshield.losses.margin import cross_entropy
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels


@dataclass(frozen=True)
class MIFGSM(Attack):
    """Steps along a decaying sum of gradients, each divided by its L1 norm (algorithm 1).

    With ``g <- mu * g + gradient / |gradient|_1``, a step follows ``sign(g)`` in Linf and
    ``g / |g|_2`` in L2.

    Args:
        steps: Number of gradient steps.
        step_size: Length of a step in the norm of ``threat``, on the [0, 1] scale; ``None``:
            ``eps / steps``, as in the paper.
        mu: Decay factor of the sum, at least 0; with 0 the attack is BIM.

    Raises:
        ValueError: ``steps`` or ``step_size`` is not positive, or ``mu`` is negative.
    """

    steps: int = 10
    step_size: float | None = None
    mu: float = 1.0

    def __post_init__(self) -> None:
        require(self, "steps", at_least=1)
        require(self, "step_size", above=0)
        require(self, "mu", at_least=0)

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        step_size = self.threat.eps / self.steps if self.step_size is None else self.step_size
        x_adv, g = x, torch.zeros_like(x)
        for _ in range(self.steps):
            gradient = loss_gradient(model, x_adv, y, cross_entropy).gradient
            l1 = gradient.abs().sum((1, 2, 3), keepdim=True)
            g = self.mu * g + gradient / l1.clamp(min=torch.finfo(l1.dtype).tiny)
            x_adv = self.threat.step(x_adv, x, g, step_size)
        return x_adv
