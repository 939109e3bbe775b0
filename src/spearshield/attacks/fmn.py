"""FMN: the fast minimum-norm attack, by gradient steps in a ball of adaptive radius.

Pintor, Roli, Brendel, Biggio, "Fast Minimum-norm Adversarial Attacks through Adaptive Norm
Constraints", 2021. https://arxiv.org/abs/2102.12827
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import interpolate

from spearshield.adversary import (
    Attack,
    loss_gradient,
    misclassified,
    shortest_step,
    unbroken,
    until_misclassified,
    within,
)
from spearshield.losses.margin import margin_loss
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.threat import L2
from spearshield.types import Classifier, Images, Labels, Mask, PerImage

FAR_IMAGES = 10
"""Number of images, far from the clean image, that are tried for a far start."""
BLOCKS = 7
"""Number of blocks along each side of a random far image."""
HALVINGS = 10
"""Bisection steps from a far image back to the decision boundary."""
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
    decides. Further runs begin at far starts: points where the line to the negative image, or to
    random blocks of colour, crosses the decision boundary. They reach adversarial images to which
    no gradient leads from the clean image. An image without success, or misclassified from the
    start, is returned unchanged.

    Args:
        steps: Number of gradient steps on the margin loss.
        step_size: L2 length of the first step, in every norm; ``None``: 10 in Linf, else 1.
        gamma: The first relative change of the radius, in (0, 1).
        restarts: Maximum number of runs for each image, the first from the clean image and the
            others from far starts. An image that one run has broken within ``eps`` is not attacked
            again.

    Raises:
        ValueError: ``steps``, ``step_size`` or ``restarts`` is not positive, or ``gamma`` is not in
            (0, 1).
    """

    minimal = True

    steps: int = 100
    step_size: float | None = None
    gamma: float = 0.05
    restarts: int = 2

    def __post_init__(self) -> None:
        require(self, "steps", "restarts", at_least=1)
        require(self, "step_size", above=0, below=math.inf)
        require(self, "gamma", above=0, below=1)

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        best = x.clone()
        best_distance = torch.where(misclassified(model, x, y), 0.0, math.inf).to(x.dtype)
        for run, left in unbroken(
            range(self.restarts), x, lambda left: best_distance[left] <= self.threat.eps
        ):
            clean, labels = x[left], y[left]
            start = clean
            if run > 0:
                start = _far_start(model, clean, labels, rng[left].fold(run), negative=run == 1)
            found, distance = self._run(model, clean, labels, start)
            best[left], best_distance[left] = _nearer(
                best[left], best_distance[left], found, distance, distance < math.inf
            )
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
def _far_start(model: Classifier, x: Images, y: Labels, rng: Rng, negative: bool) -> Images:
    """A misclassified image near the boundary on the line to a far image; ``x`` without success.

    The far image is the first misclassified one of the negative image, if ``negative``, and of
    random images.
    """
    wrong = x.clone()
    for number, left in until_misclassified(range(FAR_IMAGES), model, wrong, y):
        clean = x[left]
        far = (
            1 - clean if negative and number == 0 else _random_blocks(clean, rng[left].fold(number))
        )
        success = misclassified(model, far, y[left])
        wrong[left[success]] = far[success]
    right = x
    for _ in range(HALVINGS):
        middle = (right + wrong) / 2
        success = misclassified(model, middle, y)[:, None, None, None]
        right, wrong = torch.where(success, right, middle), torch.where(success, middle, wrong)
    return torch.where(misclassified(model, wrong, y)[:, None, None, None], wrong, x)


def _random_blocks(x: Images, rng: Rng) -> Images:
    """Images of blocks of a random colour, on a grid of ``BLOCKS`` by ``BLOCKS``."""
    _, c, h, w = x.shape
    colours = rng.uniform((c, BLOCKS, BLOCKS)).to(x)
    return interpolate(colours, size=(h, w), mode="nearest")


def _nearer(
    best: Images, best_distance: PerImage, x_adv: Images, distance: PerImage, wrong: Mask
) -> tuple[Images, PerImage]:
    """The nearest misclassified images so far, and their distances."""
    nearer = wrong & (distance < best_distance)
    best = torch.where(nearer[:, None, None, None], x_adv, best)
    return best, torch.where(nearer, distance, best_distance)
