"""DeepFool: steps to the nearest decision boundary of the linearised classifier.

Moosavi-Dezfooli, Fawzi, Frossard, "DeepFool: A Simple and Accurate Method to Fool Deep Neural
Networks", 2016. https://arxiv.org/abs/1511.04599
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spearshield.attack import Attack, check_gradient, fooled, within
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels


@dataclass(frozen=True)
class DeepFool(Attack):
    """The nearest adversarial image it finds; one farther than ``eps`` is projected.

    ``threat.distance(x_adv, x)`` is the size of what it found. An image that the model gets wrong
    as it is comes back unchanged. The steps stop, as in the authors' code, when their sum succeeds
    with the overshoot, and not only when it does without.

    Args:
        steps: Linearisations per image, at most.
        overshoot: By what share of itself the perturbation goes beyond the boundary.
        candidates: Other classes to consider, those with the highest logits; each costs a backward
            pass per step.

    Raises:
        ValueError: ``steps``, ``overshoot`` or ``candidates`` is not positive.
    """

    minimal = True

    steps: int = 50
    overshoot: float = 0.02
    candidates: int = 9

    def __post_init__(self) -> None:
        if self.steps < 1 or self.candidates < 1:
            raise ValueError(
                f"steps and candidates must be at least 1, got {self.steps} and {self.candidates}"
            )
        if not 0 < self.overshoot < math.inf:
            raise ValueError(
                f"overshoot must be positive, or no boundary is crossed; got {self.overshoot}"
            )

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        x_adv, delta = x.clone(), torch.zeros_like(x)
        left = (~fooled(model, x, y)).nonzero().squeeze(1)
        for _ in range(self.steps):
            if len(left) == 0:
                break
            delta[left] += self._step(model, (x[left] + delta[left]).clamp(0, 1), y[left])
            x_adv[left] = (x[left] + (1 + self.overshoot) * delta[left]).clamp(0, 1)
            left = left[~fooled(model, x_adv[left], y[left])]
        return within(self.threat, x_adv, x)

    def _step(self, model: Classifier, x: Images, y: Labels) -> Images:
        """The step to the nearest boundary of the linearised classifier."""
        gaps, slopes = self._linearise(model, x, y)
        steepest = self.threat.steepest_step(slopes.flatten(0, 1)).reshape(slopes.shape)
        # The unit step of steepest ascent raises a linear function by its slope's dual norm.
        rate = (steepest * slopes).flatten(2).sum(2)
        distance = torch.where(rate > 0, gaps / rate, math.inf)
        shortest, nearest = distance.min(1)
        # No gradient, no direction: the image stays where it is.
        length = torch.where(shortest < math.inf, shortest, 0.0)
        rows = torch.arange(len(x), device=x.device)
        return length[:, None, None, None] * steepest[rows, nearest]

    def _linearise(
        self, model: Classifier, x: Images, y: Labels
    ) -> tuple[Float[Tensor, "n r"], Float[Tensor, "n r c h w"]]:
        """How far each rival's logit is below the true one's, and the slope of the difference."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            logits = model(x)
            others = logits.detach().scatter(1, y[:, None], -math.inf)
            target_classes = others.topk(min(self.candidates, logits.shape[1] - 1)).indices
            rises = logits.gather(1, target_classes) - logits.gather(1, y[:, None])
            slopes = [
                torch.autograd.grad(rise.sum(), x, retain_graph=True)[0] for rise in rises.unbind(1)
            ]
        for slope in slopes:
            check_gradient(slope)
        return rises.detach().abs(), torch.stack(slopes, 1)
