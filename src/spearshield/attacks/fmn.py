"""FMN: fast minimum-norm attacks, by gradient steps in a ball that grows and shrinks.

Pintor, Roli, Brendel, Biggio, "Fast Minimum-norm Adversarial Attacks through Adaptive Norm
Constraints", 2021. https://arxiv.org/abs/2102.12827
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from spearshield.attack import Attack, check_gradient, fooled, within
from spearshield.losses.margin import margin_loss
from spearshield.rng import Rng
from spearshield.threat import L2, Linf
from spearshield.types import Classifier, Images, Labels, Mask, PerImage

FAR = 10
"""Far images that are tried where the gradient leads nowhere."""
HALVINGS = 10
LAST_GAMMA = 1e-4
LAST_STEP = 0.01
"""Share of the first step size."""


@dataclass(frozen=True)
class FMN(Attack):
    """The nearest adversarial image it finds; one farther than ``eps`` is projected.

    Each image has a ball of its own, which shrinks by a share gamma when the model errs and grows
    by as much when it does not. Until the first error it reaches that much beyond the linearised
    boundary, and never shrinks: on the boundary, as in the paper, rounding decides. Step size and
    gamma fall on half a cosine. Where this finds nothing, it starts again where the way to the
    negative of the image, or else to uniform noise, crosses the boundary. An image for which that
    finds nothing either, or that the model gets wrong as it is, comes back unchanged.
    ``threat.distance(x_adv, x)`` is the size of what it found.

    Args:
        steps: Gradient steps on the margin loss.
        step_size: L2 length of the first step, in either norm; ``None``: 1 in the L2 norm, 10 in
            L-inf.
        gamma: The first change of a ball's radius, as a share of it.

    Raises:
        ValueError: ``steps`` or ``step_size`` is not positive, or ``gamma`` not in (0, 1).
    """

    minimal = True

    steps: int = 100
    step_size: float | None = None
    gamma: float = 0.05

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.step_size is not None and not 0 < self.step_size < math.inf:
            raise ValueError(f"step_size must be positive, got {self.step_size}")
        if not 0 < self.gamma < 1:
            raise ValueError(f"gamma must be between 0 and 1, got {self.gamma}")

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        best = x.clone()
        left = (~fooled(model, x, y)).nonzero().squeeze(1)
        if len(left) > 0:
            best[left], nearest = self._nearest(model, x[left], y[left], x[left])
            left = left[nearest.isinf()]
        if len(left) > 0:
            start = _beyond(model, x[left], y[left], rng[left])
            best[left], _ = self._nearest(model, x[left], y[left], start)
        return within(self.threat, best, x)

    def _nearest(
        self, model: Classifier, x: Images, y: Labels, x_adv: Images
    ) -> tuple[Images, PerImage]:
        """The nearest error that steps from ``x_adv`` find, else the image itself; and how near."""
        first = self.step_size or (10.0 if isinstance(self.threat, Linf) else 1.0)
        best, radius = x, self.threat.distance(x_adv, x)
        nearest = torch.full_like(radius, math.inf)
        for step in range(self.steps):
            slope, gap, wrong = _margin(model, x_adv, y)
            size = self.threat.distance(x_adv, x)
            best, nearest = _nearer(best, nearest, x_adv, size, wrong)
            fall = (1 + math.cos(math.pi * step / self.steps)) / 2
            gamma = LAST_GAMMA + (self.gamma - LAST_GAMMA) * fall
            rate = (slope * self.threat.steepest_step(slope)).flatten(1).sum(1)
            boundary = size + gap / rate.clamp(min=torch.finfo(rate.dtype).tiny)
            reach = torch.where(nearest < math.inf, radius, torch.maximum(radius, boundary))
            shrunk = torch.minimum(radius * (1 - gamma), nearest)
            radius = torch.where(wrong, shrunk, reach * (1 + gamma))
            length = first * (LAST_STEP + (1 - LAST_STEP) * fall)
            x_adv = self._confine(x_adv + length * L2(1.0).steepest_step(slope), x, radius)
        wrong = fooled(model, x_adv, y)
        return _nearer(best, nearest, x_adv, self.threat.distance(x_adv, x), wrong)

    def _confine(self, x_adv: Images, x: Images, radius: PerImage) -> Images:
        """The projection into each image's own ball: that into the ball of ``eps``, to scale."""
        scale = (radius / self.threat.eps).clamp(1e-9, 1e9)[:, None, None, None]
        return (x + scale * self.threat.clip((x_adv - x) / scale)).clamp(0, 1)


@torch.no_grad()
def _beyond(model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
    """An error behind the boundary on the way to a far image, else the image itself."""
    wrong = x.clone()
    for number in range(FAR):
        far = rng.fold(number).uniform(x.shape[1:]).to(x) if number else 1 - x
        missing = ~fooled(model, wrong, y) & fooled(model, far, y)
        wrong[missing] = far[missing]
    right = x
    for _ in range(HALVINGS):
        middle = (right + wrong) / 2
        errs = fooled(model, middle, y)[:, None, None, None]
        right, wrong = torch.where(errs, right, middle), torch.where(errs, middle, wrong)
    return torch.where(fooled(model, wrong, y)[:, None, None, None], wrong, x)


def _margin(model: Classifier, x: Images, y: Labels) -> tuple[Images, PerImage, Mask]:
    """Slope of the margin loss, how far it is from zero, and which images the model gets wrong."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = model(x)
        loss = margin_loss(logits, y)
        (slope,) = torch.autograd.grad(loss.sum(), x)
    check_gradient(slope)
    return slope, loss.detach().abs(), logits.detach().argmax(1) != y


def _nearer(
    best: Images, nearest: PerImage, x_adv: Images, size: PerImage, wrong: Mask
) -> tuple[Images, PerImage]:
    """The nearest errors so far, and their distances."""
    closer = wrong & (size < nearest)
    best = torch.where(closer[:, None, None, None], x_adv, best)
    return best, torch.where(closer, size, nearest)
