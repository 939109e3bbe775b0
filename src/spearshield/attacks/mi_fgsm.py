"""MI-FGSM: the momentum iterative fast gradient sign method.

Dong, Liao, Pang, Su, Zhu, Hu, Li, "Boosting Adversarial Attacks with Momentum", 2018.
https://arxiv.org/abs/1710.06081
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from spearshield.attack import Attack, loss_gradient
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels


@dataclass(frozen=True)
class MIFGSM(Attack):
    """Steps along a decaying sum of gradients, each first divided by its L1 norm.

    With ``g <- mu * g + gradient / |gradient|_1`` a step goes along ``sign(g)`` in the L-inf norm
    and along ``g / |g|_2`` in the L2 norm.

    Args:
        steps: Gradient steps.
        step_size: Length of a step in the norm of ``threat``, on the [0, 1] scale; ``None``:
            ``eps / steps``, as in the paper.
        mu: What is kept of the sum at each step; 0 is BIM.

    Raises:
        ValueError: ``steps`` or ``step_size`` is not positive, or ``mu`` is negative.
    """

    steps: int = 10
    step_size: float | None = None
    mu: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.step_size is not None and not self.step_size > 0:
            raise ValueError(f"step_size must be positive, got {self.step_size}")
        if not self.mu >= 0:
            raise ValueError(f"mu must not be negative, got {self.mu}")

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        threat = self.threat
        size = threat.eps / self.steps if self.step_size is None else self.step_size
        x_adv, g = x, torch.zeros_like(x)
        for _ in range(self.steps):
            gradient, _ = loss_gradient(model, x_adv, y)
            length = gradient.abs().sum((1, 2, 3), keepdim=True)
            g = self.mu * g + gradient / length.clamp(min=torch.finfo(length.dtype).tiny)
            x_adv = threat.project(x_adv + size * threat.steepest_step(g), x)
        return x_adv
