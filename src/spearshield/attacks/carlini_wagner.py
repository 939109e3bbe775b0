"""Carlini and Wagner's L2 attack: the smallest perturbation, by penalty and binary search.

Carlini, Wagner, "Towards Evaluating the Robustness of Neural Networks", 2017.
https://arxiv.org/abs/1608.04644
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from spearshield.attack import Attack, check_gradient, within
from spearshield.losses.margin import margin_loss
from spearshield.rng import Rng
from spearshield.threat import L2
from spearshield.types import Classifier, Images, Labels, PerImage


@dataclass(frozen=True)
class CarliniWagner(Attack):
    """The nearest adversarial image it finds; one farther than ``eps`` is projected.

    For each image it minimises ``|x_adv - x|_2^2 + c * max(Z_y - max_other Z, -kappa)``, Z the
    logits, over ``w`` with ``x_adv = (tanh(w) + 1) / 2``, by Adam, and searches the smallest ``c``
    that succeeds. ``threat.distance(x_adv, x)`` is the size of what it found.

    Args:
        steps: Steps of Adam for each ``c``. The authors' code takes 10,000.
        lr: Step size of Adam, in the space of ``w``.
        searches: Values of ``c`` tried: ten times the last until one succeeds, then bisection.
        initial_c: The first of them.
        kappa: By how much another logit must exceed the true one.

    Raises:
        ValueError: ``threat`` is not L2; ``steps``, ``lr``, ``searches`` or ``initial_c`` is not
            positive; or ``kappa`` is negative.
    """

    minimal = True

    steps: int = 1000
    lr: float = 0.01
    searches: int = 9
    initial_c: float = 1e-3
    kappa: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.threat, L2):
            raise ValueError(
                f"this attack minimises the L2 norm: give it L2(...), not {self.threat}"
            )
        if self.steps < 1 or self.searches < 1:
            raise ValueError(
                f"steps and searches must be at least 1, got {self.steps} and {self.searches}"
            )
        if not (self.lr > 0 and self.initial_c > 0):
            raise ValueError(
                f"lr and initial_c must be positive, got {self.lr} and {self.initial_c}"
            )
        if not self.kappa >= 0:
            raise ValueError(f"kappa must not be negative, got {self.kappa}")

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        c = x.new_full((len(x),), self.initial_c)
        low, high = torch.zeros_like(c), torch.full_like(c, math.inf)
        best, nearest = x, high
        for _ in range(self.searches):
            found, distance = self._minimise(model, x, y, c)
            better = (distance < nearest) | nearest.isinf()
            best = torch.where(better[:, None, None, None], found, best)
            nearest = torch.where(better, distance, nearest)
            success = distance < math.inf
            low, high = torch.where(success, low, c), torch.where(success, c, high)
            c = torch.where(high < math.inf, (low + high) / 2, 10 * c)
        return within(self.threat, best, x)

    def _minimise(
        self, model: Classifier, x: Images, y: Labels, c: PerImage
    ) -> tuple[Images, PerImage]:
        """The nearest successful iterate and its distance; the last one and infinity, without."""
        best, nearest = x.clone(), torch.full_like(c, math.inf)
        w = torch.logit(x, eps=5e-7) / 2  # atanh(2x - 1), finite for black and white pixels
        adam = torch.optim.Adam([w], lr=self.lr)
        for _ in range(self.steps):
            x_adv, distance, w.grad = self._differentiate(model, w, x, y, c)
            better = (distance < nearest) | nearest.isinf()
            best[better], nearest[better] = x_adv[better], distance[better]
            adam.step()
        return best, nearest

    def _differentiate(
        self, model: Classifier, w: Images, x: Images, y: Labels, c: PerImage
    ) -> tuple[Images, PerImage, Images]:
        """Image, distance (infinite without success) and the objective's gradient at ``w``."""
        with torch.enable_grad():
            w = w.detach().requires_grad_()
            x_adv = (w.tanh() + 1) / 2
            logits = model(x_adv)
            distance = self.threat.distance(x_adv, x)
            gap = -margin_loss(logits, y)
            objective = distance**2 + c * gap.clamp(min=-self.kappa)
            (gradient,) = torch.autograd.grad(objective.sum(), w)
        check_gradient(gradient)
        success = (logits.argmax(1) != y) & (gap <= -self.kappa)
        distance = torch.where(success, distance, math.inf)
        return x_adv.detach(), distance.detach(), gradient
