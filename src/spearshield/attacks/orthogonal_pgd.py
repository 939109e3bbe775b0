"""Orthogonal PGD: fool the classifier and its detector too, a step for the one or for the other.

Bryniarski, Hingun, Pachuca, Wang, Carlini, "Evading Adversarial Example Detection Defenses with
Orthogonal Projected Gradient LatentSearchSettings", 2021. https://arxiv.org/abs/2106.15023
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spearshield.attack import Attack, check_gradient
from spearshield.losses.margin import margin_loss
from spearshield.method import Detects
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels, Mask, PerImage


@dataclass(frozen=True)
class OrthogonalPGD(Attack):
    """Steps that raise the margin loss where the class is still right, and else lower suspicion.

    In the first restart each goes along the whole gradient (the authors' selective PGD), in the
    second along the part that is orthogonal to the other gradient, so that it costs what has been
    reached as little as it can, and so on in turn. A model that does not
    :class:`~spearshield.method.Detects` is attacked by the margin alone. Steps shrink to zero along
    a half cosine. An image leaves as soon as the model errs on it and accepts it.

    Args:
        steps: Gradient steps in each restart.
        step_size: Of the first step, in the norm of ``threat``, on the [0, 1] scale; ``None``: a
            quarter of ``eps``.
        restarts: Starts per image, at most; an image that has been broken is not started again.

    Raises:
        ValueError: ``steps``, ``restarts`` or ``step_size`` is not positive.
    """

    steps: int = 100
    step_size: float | None = None
    restarts: int = 6

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise ValueError(
                f"steps and restarts must be at least 1, got {self.steps} and {self.restarts}"
            )
        if self.step_size is not None and not self.step_size > 0:
            raise ValueError(f"step_size must be positive, got {self.step_size}")

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        best = x.clone()
        left = (~_broken(model, x, y)).nonzero().squeeze(1)
        for restart in range(self.restarts):
            if len(left) == 0:
                break
            start, orthogonal = rng[left].fold(restart), restart % 2 == 1
            best[left] = self._climb(model, x[left], y[left], start, orthogonal)
            left = left[~_broken(model, best[left], y[left])]
        return best

    def _climb(self, model: Classifier, x: Images, y: Labels, rng: Rng, orthogonal: bool) -> Images:
        threat = self.threat
        first = threat.eps / 4 if self.step_size is None else self.step_size
        x_adv = threat.project(x + threat.sample_perturbation(x, rng), x)
        left = torch.arange(len(x), device=x.device)
        for step in range(self.steps):
            margin, up = _slope(lambda x: margin_loss(model(x), y[left]), x_adv[left])  # noqa: B023
            detection_score, away = _slope(lambda x: _detection_score(model, x), x_adv[left])
            wrong, noticed = margin > 0, detection_score > 0
            standing = ~wrong | noticed
            if not standing.any():
                break
            if orthogonal:
                up, away = _beside(up, away), _beside(away, up)
            ascent = torch.where(wrong[:, None, None, None], -away, up)[standing]
            left = left[standing]
            size = first * 0.5 * (1 + math.cos(math.pi * step / self.steps))
            x_adv[left] = threat.project(x_adv[left] + size * threat.steepest_step(ascent), x[left])
        return x_adv


def _slope(loss: Classifier, x: Images) -> tuple[PerImage, Images]:
    """The loss of each image and its gradient, zero where the loss does not depend on the image."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = loss(x)
        gradient: Tensor | None = None
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value.sum(), x, allow_unused=True)
    if gradient is None:
        gradient = torch.zeros_like(x)
    check_gradient(gradient)
    return value.detach(), gradient


def _beside(gradient: Images, other: Images) -> Images:
    """The part of each image's gradient that is orthogonal to the other gradient."""
    along = (gradient * other).sum((1, 2, 3), keepdim=True)
    square = other.square().sum((1, 2, 3), keepdim=True)
    return gradient - along / square.clamp(min=torch.finfo(square.dtype).tiny) * other


def _detection_score(model: Classifier, x: Images) -> PerImage:
    return model.detection_score(x) if isinstance(model, Detects) else x.new_full((len(x),), -1.0)


@torch.no_grad()
def _broken(model: Classifier, x: Images, y: Labels) -> Mask:
    """Which images the model gets wrong without noticing anything."""
    return (margin_loss(model(x), y) > 0) & (_detection_score(model, x) <= 0)
