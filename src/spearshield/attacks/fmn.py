"""FMN: the fast minimum-norm attack, by gradient steps in a ball of adaptive radius.

Pintor, Roli, Brendel, Biggio, "Fast Minimum-norm Adversarial Attacks through Adaptive Norm
Constraints", 2021. https://arxiv.org/abs/2102.12827
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from spearshield.adversary import (
    Attack,
    loss_gradient,
    misclassified,
    shortest_step,
    unbroken,
    within,
)
from spearshield.losses.margin import margin_loss
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.threat import L2
from spearshield.types import Classifier, Images, Labels, Mask, PerImage

STARTS = ("clean", "far")
FAR_IMAGES = 10
"""Number of images, far from the clean image, that are tried for a far start."""
HALVINGS = 10
"""Bisection steps from such an image back to the decision boundary."""
LAST_GAMMA = 1e-4
LAST_STEP = 0.01
"""Length of the last step as a fraction of the first."""


@dataclass(frozen=True)
class FMN(Attack):
    """The nearest adversarial image that the steps find; one farther than ``eps`` is projected.

    Each image has its own ball (algorithm 1). Its radius shrinks by the fraction gamma when the
    iterate is misclassified and grows by the same fraction when it is not. Step size and gamma
    decrease on a half cosine. ``threat.distance(x_adv, x)`` is the size of the perturbation.

    Two details differ from the paper. Until the first success the radius never shrinks and exceeds
    the distance to the linearised boundary by gamma, because on the boundary itself rounding
    decides. Without success the attack starts once more, from the other start. An image without
    success, or misclassified from the start, is returned unchanged.

    Args:
        steps: Number of gradient steps on the margin loss.
        step_size: L2 length of the first step, in every norm; ``None``: 10 in Linf, else 1.
        gamma: The first relative change of the radius, in (0, 1).
        start: ``clean``: the clean image. ``far``: the point where the line to the negative image,
            or else to uniform noise, crosses the decision boundary. It reaches adversarial images
            to which no gradient leads from the clean image.

    Raises:
        ValueError: ``steps`` or ``step_size`` is not positive, ``gamma`` is not in (0, 1), or
            ``start`` is unknown.
    """

    minimal = True

    steps: int = 100
    step_size: float | None = None
    gamma: float = 0.05
    start: Literal["clean", "far"] = "clean"

    def __post_init__(self) -> None:
        require(self, "steps", at_least=1)
        require(self, "step_size", above=0, below=math.inf)
        require(self, "gamma", above=0, below=1)
        require(self, "start", one_of=STARTS)

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        best = x.clone()
        success = misclassified(model, x, y)
        starts = sorted(STARTS, key=lambda start: start != self.start)
        for start, left in unbroken(starts, x, lambda left: success[left]):
            clean = x[left]
            x_adv = clean if start == "clean" else _far_start(model, clean, y[left], rng[left])
            best[left], distance = self._run(model, clean, y[left], x_adv)
            success[left] = distance < math.inf
        return within(self.threat, best, x)

    def _run(
        self, model: Classifier, x: Images, y: Labels, x_adv: Images
    ) -> tuple[Images, PerImage]:
        """The nearest success of a run and its distance; without success ``x`` and infinity."""
        threat = self.threat
        best, radius = x, threat.distance(x_adv, x)
        best_distance = torch.full_like(radius, math.inf)
        for step in range(self.steps):
            margin, gradient, wrong = loss_gradient(model, x_adv, y, margin_loss)
            distance = threat.distance(x_adv, x)
            best, best_distance = _nearer(best, best_distance, x_adv, distance, wrong)
            decay = (1 + math.cos(math.pi * step / self.steps)) / 2
            gamma = LAST_GAMMA + (self.gamma - LAST_GAMMA) * decay
            slope = threat.dual_norm(gradient)
            reach = margin.abs() / slope.clamp(min=torch.finfo(slope.dtype).tiny)
            boundary = distance + torch.maximum(reach, shortest_step(threat, gradient))
            found = best_distance < math.inf
            outer = torch.where(found, radius, torch.maximum(radius, boundary)) * (1 + gamma)
            inner = torch.minimum(radius * (1 - gamma), best_distance)
            radius = torch.where(wrong, inner, outer)
            length = self._first_step * (LAST_STEP + (1 - LAST_STEP) * decay)
            x_new = x_adv + length * L2(1.0).normalize(gradient)
            x_adv = threat.project_within(x_new, x, radius)
        wrong = misclassified(model, x_adv, y)
        return _nearer(best, best_distance, x_adv, threat.distance(x_adv, x), wrong)

    @property
    def _first_step(self) -> float:
        default = 10.0 if self.threat.p == math.inf else 1.0
        return default if self.step_size is None else self.step_size


@torch.no_grad()
def _far_start(model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
    """A misclassified image near the boundary on the line to a far image; ``x`` without success."""
    wrong = x.clone()
    for number in range(FAR_IMAGES):
        far = rng.fold(number).uniform(x.shape[1:]).to(x) if number else 1 - x
        missing = ~misclassified(model, wrong, y) & misclassified(model, far, y)
        wrong[missing] = far[missing]
    right = x
    for _ in range(HALVINGS):
        middle = (right + wrong) / 2
        success = misclassified(model, middle, y)[:, None, None, None]
        right, wrong = torch.where(success, right, middle), torch.where(success, middle, wrong)
    return torch.where(misclassified(model, wrong, y)[:, None, None, None], wrong, x)


def _nearer(
    best: Images, best_distance: PerImage, x_adv: Images, distance: PerImage, wrong: Mask
) -> tuple[Images, PerImage]:
    """The nearest misclassified images so far, and their distances."""
    nearer = wrong & (distance < best_distance)
    best = torch.where(nearer[:, None, None, None], x_adv, best)
    return best, torch.where(nearer, distance, best_distance)
