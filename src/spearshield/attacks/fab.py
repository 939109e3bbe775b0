"""FAB: the fast adaptive boundary attack, which looks for the nearest adversarial image.

Croce, Hein, "Minimally distorted Adversarial Examples with a Fast Adaptive Boundary Attack", 2020.
https://arxiv.org/abs/1907.02044
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spearshield.attack import Attack, check_gradient, fooled, within
from spearshield.rng import Rng
from spearshield.threat import Linf, ThreatModel
from spearshield.types import Classifier, Images, Labels, Logits, PerImage


@dataclass(frozen=True)
class FAB(Attack):
    """The nearest adversarial image it finds; one farther than ``eps`` is projected.

    Each step goes to the decision boundary of the linearised classifier within [0, 1], pulled
    towards where the clean image would reach it; each success is pulled back to the clean image.
    An image for which it finds nothing, or that the model gets wrong as it is, comes back
    unchanged. ``threat.distance(x_adv, x)`` is the size of what it found.

    Args:
        targets: Other classes to head for, one run each, those with the highest logits on the
            clean image; 0: one run that heads for the nearest boundary, whichever class is behind
            it, at one backward pass per class and step.
        steps: Linearisations in each run.
        restarts: Runs per target; the first starts at the clean image, others at a random point.
        alpha_max: The pull towards the clean image's own projection, at most.
        eta: A step's length over that to the boundary.
        beta: What is kept of a successful perturbation before the next step.
        early_stop: An image leaves as soon as a success lies within ``eps``. Off: it takes every
            step of every run, for the distance itself.

    Raises:
        ValueError: ``targets`` is negative, ``steps`` or ``restarts`` is not positive,
            ``alpha_max`` or ``beta`` is not in [0, 1], or ``eta`` is less than 1.
    """

    minimal = True

    targets: int = 9
    steps: int = 100
    restarts: int = 1
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9
    early_stop: bool = True

    def __post_init__(self) -> None:
        if self.targets < 0:
            raise ValueError(f"targets must be at least 0, got {self.targets}")
        if self.steps < 1 or self.restarts < 1:
            raise ValueError(
                f"steps and restarts must be at least 1, got {self.steps} and {self.restarts}"
            )
        if not (0 <= self.alpha_max <= 1 and 0 <= self.beta <= 1):
            raise ValueError(
                f"alpha_max and beta must be in [0, 1], got {self.alpha_max} and {self.beta}"
            )
        if not 1 <= self.eta < math.inf:
            raise ValueError(f"eta must be at least 1, or no boundary is crossed; got {self.eta}")

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        best = x.clone()
        with torch.no_grad():
            logits = model(x)
        nearest = torch.where(logits.argmax(1) == y, math.inf, 0.0).to(x.dtype)
        for run, target_classes in enumerate(self._target_classes(logits, y)):
            for restart in range(self.restarts):
                left = self._wanted(nearest)
                if len(left) == 0:
                    break
                start = x[left]
                if restart > 0:
                    reach = 0.5 * (nearest[left] / self.threat.eps).clamp(max=1)
                    delta = self.threat.sample_perturbation(
                        start, rng[left].fold(run).fold(restart)
                    )
                    start = (start + reach[:, None, None, None] * delta).clamp(0, 1)
                found, distance = self._approach(
                    model, x[left], y[left], target_classes[left], start
                )
                closer = distance < nearest[left]
                best[left[closer]], nearest[left[closer]] = found[closer], distance[closer]
        found = self._wanted(nearest.where(nearest < math.inf, 0.0))
        if len(found) > 0:
            best[found] = self._final_search(model, x[found], y[found], best[found])
        return within(self.threat, best, x)

    def _target_classes(self, logits: Logits, y: Labels) -> tuple[Int[Tensor, "n r"], ...]:
        """The classes that each run heads for."""
        others = logits.scatter(1, y[:, None], -math.inf)
        count = logits.shape[1] - 1
        if self.targets == 0:
            return (others.topk(count).indices,)
        targets = others.topk(min(self.targets, count)).indices
        return tuple(target[:, None] for target in targets.unbind(1))

    def _wanted(self, nearest: PerImage) -> Int[Tensor, "left"]:
        """The images whose distance is still to be lowered."""
        return (nearest > (self.threat.eps if self.early_stop else 0.0)).nonzero().squeeze(1)

    def _approach(
        self,
        model: Classifier,
        x: Images,
        y: Labels,
        target_classes: Int[Tensor, "n r"],
        x_now: Images,
    ) -> tuple[Images, PerImage]:
        """The nearest success of a run and its distance; infinity, without."""
        best, nearest = x.clone(), torch.full_like(x[:, 0, 0, 0], math.inf)
        for _ in range(self.steps):
            left = self._wanted(nearest)
            if len(left) == 0:
                break
            here, clean, label = x_now[left], x[left], y[left]
            here = self._step(
                here, clean, *self._linearise(model, here, label, target_classes[left])
            )
            wrong = fooled(model, here, label)
            distance = self.threat.distance(here, clean)
            closer = wrong & (distance < nearest[left])
            best[left[closer]], nearest[left[closer]] = here[closer], distance[closer]
            back = clean + self.beta * (here - clean)
            x_now[left] = torch.where(wrong[:, None, None, None], back, here)
        return best, nearest

    def _linearise(
        self, model: Classifier, x: Images, y: Labels, target_classes: Int[Tensor, "n r"]
    ) -> tuple[Images, PerImage]:
        """Slope of a rival's logit minus the true one's, and that difference.

        Of several rivals, the one whose boundary is nearest.
        """
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            logits = model(x)
            rises = logits.gather(1, target_classes) - logits.gather(1, y[:, None])
            slopes = torch.stack(
                [torch.autograd.grad(r.sum(), x, retain_graph=True)[0] for r in rises.unbind(1)], 1
            )
            rises = rises.detach()
        check_gradient(slopes.flatten(1, 2))
        if target_classes.shape[1] == 1:
            return slopes[:, 0], rises[:, 0]
        steepest = self.threat.steepest_step(slopes.flatten(0, 1)).reshape(slopes.shape)
        rate = (steepest * slopes).flatten(2).sum(2)
        distance = torch.where(rate > 0, rises.abs() / rate, math.inf)
        nearest = distance.argmin(1)
        rows = torch.arange(len(x), device=x.device)
        return slopes[rows, nearest], rises[rows, nearest]

    def _step(self, here: Images, clean: Images, slope: Images, rise: PerImage) -> Images:
        """A step beyond the linearised boundary, pulled towards the clean image."""
        rise_clean = rise + (slope * (clean - here)).flatten(1).sum(1)
        points, both = torch.cat([here, clean]), torch.cat([-rise, -rise_clean])
        delta = to_hyperplane(self.threat, points, torch.cat([slope, slope]), both)
        size = self.threat.distance(delta, torch.zeros_like(delta)).clamp(min=1e-12)
        own, other = size.chunk(2)
        alpha = (own / (own + other)).clamp(max=self.alpha_max)[:, None, None, None]
        one, two = (points + self.eta * delta).chunk(2)
        return ((1 - alpha) * one + alpha * two).clamp(0, 1)

    @torch.no_grad()
    def _final_search(self, model: Classifier, x: Images, y: Labels, x_adv: Images) -> Images:
        """The final search: successes nearer on the line to the clean image, by the secant.

        Each step ends a tenth before the boundary that it expects: on it, rounding would decide.
        """
        inner, outer = x, x_adv
        below, above = model(inner), model(outer)
        rows = torch.arange(len(x), device=x.device)
        for _ in range(3):
            rival = above.argmax(1)
            low, high = (z[rows, y] - z[rows, rival] for z in (below, above))
            share = 0.9 * high / (high - low).clamp(max=-1e-12)
            middle = outer + share[:, None, None, None] * (inner - outer)
            between = model(middle)
            wrong = (between.argmax(1) != y)[:, None]
            below, above = torch.where(wrong, below, between), torch.where(wrong, between, above)
            wrong = wrong[:, :, None, None]
            inner, outer = torch.where(wrong, inner, middle), torch.where(wrong, middle, outer)
        return outer


def to_hyperplane(threat: ThreatModel, x: Images, slope: Images, rise: PerImage) -> Images:
    """The smallest perturbation, in the norm of ``threat``, that adds ``rise`` to ``slope . x``.

    ``x`` stays in [0, 1]; where nothing there is so far up or down, it gets as far as it can. Pixel
    by pixel the solution is ``min(level * speed, room)``, with speed 1 in L-inf and that of its
    slope in L2, where room is left to the edge of [0, 1].
    """
    largest = slope.abs().amax((1, 2, 3)).clamp(min=torch.finfo(slope.dtype).tiny)
    w = (slope * (rise.sign() / largest)[:, None, None, None]).flatten(1)
    sign, x = w.sign(), x.flatten(1)
    room = (1 + sign) / 2 - sign * x  # 1 - x upwards, x downwards; ``where`` is ten times slower
    speed = torch.ones_like(w) if isinstance(threat, Linf) else w.abs()
    full = room / speed.clamp(min=torch.finfo(w.dtype).tiny)
    level = fill(w.abs() * speed, full, rise.abs() / largest)
    return (sign * torch.minimum(level[:, None] * speed, room)).view_as(slope)


def fill(gain: Float[Tensor, "n p"], full: Float[Tensor, "n p"], rise: PerImage) -> PerImage:
    """The level at which the sum of ``gain * min(level, full)`` is ``rise``; huge, if it never is.

    Newton's method from below. The sum is concave and linear between the places that get full, so
    a step ends short of the solution or on it, and on it once no further place is full. That takes
    a few passes, and sorting the places takes longer.
    """
    most = gain * full
    moving = torch.ones_like(gain)
    while True:
        flow = (gain * moving).sum(1)
        missing = rise - (most * (1 - moving)).sum(1)
        level = torch.where(flow > 0, missing / flow, torch.finfo(gain.dtype).max)
        still = moving * full.clone().gt_(level[:, None])
        if torch.equal(still, moving):
            return level
        moving = still
