"""DeepFool: steps to the nearest decision boundary of the linearised classifier.

Moosavi-Dezfooli, Fawzi, Frossard, "DeepFool: A Simple and Accurate Method to Fool Deep Neural
Networks", 2016. https://arxiv.org/abs/1511.04599
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from spearshield.adversary import Attack, fooled, linearise, unbroken, within
from spearshield.losses.margin import other_logits
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels, Logits


@dataclass(frozen=True)
class DeepFool(Attack):
    """The nearest adversarial image that the steps find; one farther than ``eps`` is projected.

    ``threat.distance(x_adv, x)`` is the size of the perturbation. An image that is misclassified
    from the start is returned unchanged. As in the authors' code, the steps stop when the sum of
    the steps including the overshoot is misclassified (algorithm 2 tests the sum without it).

    Args:
        steps: Maximum number of linearisations for each image.
        overshoot: Fraction of the perturbation by which the result goes beyond the boundary.
        candidates: Number of other classes to consider, those with the highest logits. Each costs
            a backward pass in every step.

    Raises:
        ValueError: ``steps``, ``overshoot`` or ``candidates`` is not positive.
    """

    minimal = True

    steps: int = 50
    overshoot: float = 0.02
    candidates: int = 9

    def __post_init__(self) -> None:
        require(self, "steps", "candidates", at_least=1)
        require(self, "overshoot", above=0, below=math.inf)

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        x_adv, delta = x.clone(), torch.zeros_like(x)
        steps = range(self.steps)
        for _, left in unbroken(steps, x, lambda left: fooled(model, x_adv[left], y[left])):
            delta[left] += self._step(model, (x[left] + delta[left]).clamp(0, 1), y[left])
            x_adv[left] = (x[left] + (1 + self.overshoot) * delta[left]).clamp(0, 1)
        return within(self.threat, x_adv, x)

    def _step(self, model: Classifier, x: Images, y: Labels) -> Images:
        """The step to the nearest boundary of the linearised classifier."""

        def candidates(logits: Logits) -> Int[Tensor, "n r"]:
            count = min(self.candidates, logits.shape[1] - 1)
            return other_logits(logits, y).topk(count).indices

        distance, _, gradient = linearise(model, x, y, candidates).nearest(self.threat)
        # Where all gradients are zero, the image stays in place.
        length = torch.where(distance < math.inf, distance, 0.0)
        return length[:, None, None, None] * self.threat.steepest_step(gradient)
