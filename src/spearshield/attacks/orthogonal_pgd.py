"""Orthogonal PGD: gradient steps against a classifier and its detector, one at a time.

Bryniarski, Hingun, Pachuca, Wang, Carlini, "Evading Adversarial Example Detection Defenses with
Orthogonal Projected Gradient Descent", 2021. https://arxiv.org/abs/2106.15023
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from spearshield.adversary import Attack, loss_gradient, unbroken
from spearshield.gradients import NoGradientError, gradients, recording
from spearshield.losses.margin import margin_loss
from spearshield.method import Detects
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels, Mask, PerImage


@dataclass(frozen=True)
class OrthogonalPGD(Attack):
    """Steps that increase the margin loss or, once misclassified, decrease the detection score.

    Even runs follow the whole gradient (the paper's selective PGD). Odd runs follow the component
    that is orthogonal to the gradient of the other objective, so that a step for one objective
    changes the other as little as possible. A model that does not implement
    :class:`~spearshield.method.Detects` is attacked by the margin loss alone. The step size
    decreases to zero on a half cosine. An image stops once it is misclassified and accepted.

    Args:
        steps: Number of gradient steps in each run.
        step_size: Length of the first step in the norm of ``threat``, on the [0, 1] pixel scale;
            ``None``: ``eps / 4``.
        restarts: Maximum number of runs for each image. An image that one run has broken is not
            attacked again.

    Raises:
        ValueError: ``steps``, ``restarts`` or ``step_size`` is not positive.
    """

    steps: int = 100
    step_size: float | None = None
    restarts: int = 6

    def __post_init__(self) -> None:
        require(self, "steps", "restarts", at_least=1)
        require(self, "step_size", above=0)

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        x_adv = x.clone()
        restarts = range(self.restarts)
        for restart, left in unbroken(
            restarts, x, lambda left: _broken(model, x_adv[left], y[left])
        ):
            own, orthogonal = rng[left].fold(restart), restart % 2 == 1
            x_adv[left] = self._run(model, x[left], y[left], own, orthogonal)
        return x_adv

    def _run(self, model: Classifier, x: Images, y: Labels, rng: Rng, orthogonal: bool) -> Images:
        first = self.threat.eps / 4 if self.step_size is None else self.step_size
        x_adv = self.threat.random_start(x, rng)
        left = torch.arange(len(x), device=x.device)
        for step in range(self.steps):
            margin, g_class, _ = loss_gradient(model, x_adv[left], y[left], margin_loss)
            score, g_detect = _score_gradient(model, x_adv[left])
            wrong, detected = margin > 0, score > 0
            remaining = ~wrong | detected
            if not remaining.any():
                break
            if orthogonal:
                g_class, g_detect = _orthogonal(g_class, g_detect), _orthogonal(g_detect, g_class)
            ascent = torch.where(wrong[:, None, None, None], -g_detect, g_class)[remaining]
            left = left[remaining]
            step_size = first * 0.5 * (1 + math.cos(math.pi * step / self.steps))
            x_adv[left] = self.threat.step(x_adv[left], x[left], ascent, step_size)
        return x_adv


def _score_gradient(model: Classifier, x: Images) -> tuple[PerImage, Images]:
    """The detection scores and their gradient; zero if they do not depend on the image."""
    with recording():
        x = x.detach().requires_grad_()
        score = _detection_score(model, x)
    try:
        (gradient,) = gradients(score, x)
    except NoGradientError:
        gradient = torch.zeros_like(x)
    return score.detach(), gradient.detach()


def _orthogonal(gradient: Images, other: Images) -> Images:
    """The component of each gradient that is orthogonal to the other gradient."""
    inner = (gradient * other).sum((1, 2, 3), keepdim=True)
    square = other.square().sum((1, 2, 3), keepdim=True)
    return gradient - inner / square.clamp(min=torch.finfo(square.dtype).tiny) * other


def _detection_score(model: Classifier, x: Images) -> PerImage:
    """Detection score of each image, positive if rejected; -1 for a model without a detector."""
    x = x.clone()  # a detector may change its input in place
    return model.detection_score(x) if isinstance(model, Detects) else x.new_full((len(x),), -1.0)


@torch.no_grad()
def _broken(model: Classifier, x: Images, y: Labels) -> Mask:
    """True for each image that is misclassified and accepted."""
    return (margin_loss(model(x), y) > 0) & (_detection_score(model, x) <= 0)
