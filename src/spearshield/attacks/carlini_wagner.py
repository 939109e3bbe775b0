"""Carlini and Wagner's L2 attack: the smallest perturbation, by a penalty and a binary search.

Carlini, Wagner, "Towards Evaluating the Robustness of Neural Networks", 2017.
https://arxiv.org/abs/1608.04644
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from spearshield.adversary import Attack, within
from spearshield.gradients import gradients, recording
from spearshield.losses.margin import margin_loss
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.threat import L2
from spearshield.types import Classifier, Images, Labels, Logits, Mask, PerImage


@dataclass(frozen=True)
class CarliniWagner(Attack):
    """The nearest adversarial image that the search finds; one farther than ``eps`` is projected.

    For each image Adam minimises ``|x_adv - x|_2^2 + c * max(Z_y - max_other Z, -kappa)`` over
    ``w``, where ``Z`` are the logits and ``x_adv = (tanh(w) + 1) / 2`` (section VI-A). A binary
    search finds the smallest ``c`` that succeeds. ``threat.distance(x_adv, x)`` is the size of the
    perturbation.

    Args:
        steps: Number of steps of Adam for each ``c``. The authors' code takes 10,000.
        lr: Learning rate of Adam, in units of ``w``.
        searches: Number of values of ``c`` tried: each is ten times the last one until one
            succeeds, then bisection.
        initial_c: The first value of ``c``.
        kappa: Confidence: by how much another logit must exceed the true one, at least 0.

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
                "this attack minimises the L2 norm: give it L2(...) or --threat L2, not "
                f"{self.threat}"
            )
        require(self, "steps", "searches", at_least=1)
        require(self, "lr", "initial_c", above=0)
        require(self, "kappa", at_least=0)

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        c = x.new_full((len(x),), self.initial_c)
        low, high = torch.zeros_like(c), torch.full_like(c, math.inf)
        with torch.no_grad():
            best, best_distance = x, torch.where(self._succeeds(model(x), y), 0.0, high)
        for _ in range(self.searches):
            found, distance = self._minimise(model, x, y, c)
            better = (distance < best_distance) | best_distance.isinf()
            best = torch.where(better[:, None, None, None], found, best)
            best_distance = torch.where(better, distance, best_distance)
            success = distance < math.inf
            low, high = torch.where(success, low, c), torch.where(success, c, high)
            c = torch.where(high < math.inf, (low + high) / 2, 10 * c)
        return within(self.threat, best, x)

    def _minimise(
        self, model: Classifier, x: Images, y: Labels, c: PerImage
    ) -> tuple[Images, PerImage]:
        """The nearest success and its distance; without success the last iterate and infinity."""
        best, best_distance = x.clone(), torch.full_like(c, math.inf)
        w = torch.logit(x, eps=5e-7) / 2  # atanh(2x - 1), finite for black and white pixels
        adam = torch.optim.Adam([w], lr=self.lr)
        for _ in range(self.steps):
            x_adv, distance, w.grad = self._differentiate(model, w, x, y, c)
            better = (distance < best_distance) | best_distance.isinf()
            best[better], best_distance[better] = x_adv[better], distance[better]
            adam.step()
        return best, best_distance

    def _differentiate(
        self, model: Classifier, w: Images, x: Images, y: Labels, c: PerImage
    ) -> tuple[Images, PerImage, Images]:
        """Image, distance (infinite without success) and gradient of the objective at ``w``."""
        with recording():
            w = w.detach().requires_grad_()
            x_adv = (w.tanh() + 1) / 2
            seen = x_adv.view_as(x_adv)  # the distance has a gradient even if the logits have none
            logits = model(seen)
            distance = self.threat.distance(x_adv, x)
            gap = -margin_loss(logits, y)
            objective = distance**2 + c * gap.clamp(min=-self.kappa)
        gradient, _ = gradients(objective, w, seen)
        distance = torch.where(self._succeeds(logits, y), distance, math.inf)
        return x_adv.detach(), distance.detach(), gradient

    def _succeeds(self, logits: Logits, y: Labels) -> Mask:
        """True for each image that is misclassified with confidence ``kappa``."""
        return (logits.argmax(1) != y) & (margin_loss(logits, y) >= self.kappa)
