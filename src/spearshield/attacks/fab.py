"""FAB: the fast adaptive boundary attack, which minimises the perturbation.

Croce, Hein, "Minimally distorted Adversarial Examples with a Fast Adaptive Boundary Attack", 2020.
https://arxiv.org/abs/1907.02044
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
from spearshield.types import Classifier, Images, Labels, Logits, Mask, PerImage


@dataclass(frozen=True)
class FAB(Attack):
    """The nearest adversarial image that the runs find; one farther than ``eps`` is projected.

    Each step (algorithm 1) goes to the decision boundary of the linearised classifier within
    [0, 1], biased towards the projection of the clean image onto that boundary. A misclassified
    iterate is moved back towards the clean image. An image without success, or misclassified from
    the start, is returned unchanged. ``threat.distance(x_adv, x)`` is the size of the
    perturbation.

    Args:
        targets: Number of target classes, those with the highest logits on the clean image, with
            one run for each; 0: one untargeted run towards the nearest boundary of any class, at
            one backward pass per class and step.
        steps: Number of linearisations in each run.
        restarts: Runs per target. The first starts at the clean image, others at a random point.
        alpha_max: Largest weight of the projection of the clean image, in [0, 1].
        eta: Length of a step as a multiple of the distance to the boundary, at least 1.
        beta: Fraction of a misclassified perturbation that is kept for the next step, in [0, 1].
        early_stop: Stop each image at its first success within ``eps``. Otherwise each image takes
            every step of every run, to minimise its distance.

    Raises:
        ValueError: An argument is out of range.
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
        require(self, "targets", at_least=0)
        require(self, "steps", "restarts", at_least=1)
        require(self, "alpha_max", "beta", at_least=0, at_most=1)
        require(self, "eta", at_least=1, below=math.inf)

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        with torch.no_grad():
            logits = model(x)
        best = x.clone()
        best_distance = torch.where(logits.argmax(1) == y, math.inf, 0.0).to(x.dtype)
        runs = [
            (classes, number, restart)
            for number, classes in enumerate(self._target_classes(logits, y))
            for restart in range(self.restarts)
        ]
        for (classes, number, restart), left in unbroken(
            runs, x, lambda left: self._done(best_distance[left])
        ):
            start = x[left]
            if restart > 0:
                start = self._random_start(
                    start, best_distance[left], rng[left].fold(number).fold(restart)
                )
            found, distance = self._run(model, x[left], y[left], classes[left], start)
            nearer = distance < best_distance[left]
            best[left[nearer]], best_distance[left[nearer]] = found[nearer], distance[nearer]
        success = best_distance < math.inf
        refine = (success & ~self._done(best_distance)).nonzero().squeeze(1)
        if len(refine) > 0:
            best[refine] = self._final_search(model, x[refine], y[refine], best[refine])
        return within(self.threat, best, x)

    def _target_classes(self, logits: Logits, y: Labels) -> tuple[Int[Tensor, "n r"], ...]:
        """For each run the ``r`` classes whose boundaries it considers."""
        others, count = other_logits(logits, y), logits.shape[1] - 1
        if self.targets == 0:
            return (others.topk(count).indices,)
        targets = others.topk(min(self.targets, count)).indices
        return tuple(target[:, None] for target in targets.unbind(1))

    def _done(self, distance: PerImage) -> Mask:
        """True for each image whose distance needs no further reduction."""
        return distance <= (self.threat.eps if self.early_stop else 0.0)

    def _random_start(self, x: Images, distance: PerImage, rng: Rng) -> Images:
        """A random point at most half of ``min(distance, eps)`` away from the clean image."""
        reach = 0.5 * (distance / self.threat.eps).clamp(max=1)
        delta = self.threat.sample_perturbation(x, rng)
        return (x + reach[:, None, None, None] * delta).clamp(0, 1)

    def _run(
        self,
        model: Classifier,
        x: Images,
        y: Labels,
        classes: Int[Tensor, "n r"],
        x_now: Images,
    ) -> tuple[Images, PerImage]:
        """The nearest success of a run and its distance; infinity without success."""
        best, best_distance = x.clone(), torch.full_like(x[:, 0, 0, 0], math.inf)
        steps = range(self.steps)
        for _, left in unbroken(steps, x, lambda left: self._done(best_distance[left])):
            clean = x[left]
            x_new = self._step(model, x_now[left], clean, y[left], classes[left])
            wrong = fooled(model, x_new, y[left])
            distance = self.threat.distance(x_new, clean)
            nearer = wrong & (distance < best_distance[left])
            best[left[nearer]], best_distance[left[nearer]] = x_new[nearer], distance[nearer]
            back = clean + self.beta * (x_new - clean)
            x_now[left] = torch.where(wrong[:, None, None, None], back, x_new)
        return best, best_distance

    def _step(
        self, model: Classifier, x_now: Images, x: Images, y: Labels, classes: Int[Tensor, "n r"]
    ) -> Images:
        """A step beyond the linearised boundary, biased towards the clean image ``x``."""
        linearised = linearise(model, x_now, y, lambda _: classes)
        _, difference, gradient = linearised.nearest(self.threat)
        at_clean = difference + (gradient * (x - x_now)).flatten(1).sum(1)
        points = torch.cat([x_now, x])
        delta = self.threat.to_hyperplane(
            points, torch.cat([gradient, gradient]), torch.cat([-difference, -at_clean])
        )
        own, other = self.threat.size(delta).clamp(min=1e-12).chunk(2)
        alpha = (own / (own + other)).clamp(max=self.alpha_max)[:, None, None, None]
        one, two = (points + self.eta * delta).chunk(2)
        return ((1 - alpha) * one + alpha * two).clamp(0, 1)

    @torch.no_grad()
    def _final_search(self, model: Classifier, x: Images, y: Labels, x_adv: Images) -> Images:
        """Successes nearer to the clean image on the line to it: the final search.

        Three secant steps. Each ends a tenth before the predicted boundary, where rounding would
        decide the class.
        """
        inner, outer = x, x_adv
        logits_inner, logits_outer = model(inner), model(outer)
        rows = torch.arange(len(x), device=x.device)
        for _ in range(3):
            target = logits_outer.argmax(1)
            low, high = (z[rows, y] - z[rows, target] for z in (logits_inner, logits_outer))
            share = 0.9 * high / (high - low).clamp(max=-1e-12)
            middle = outer + share[:, None, None, None] * (inner - outer)
            logits = model(middle)
            wrong = (logits.argmax(1) != y)[:, None]
            logits_inner = torch.where(wrong, logits_inner, logits)
            logits_outer = torch.where(wrong, logits, logits_outer)
            wrong = wrong[:, :, None, None]
            inner, outer = torch.where(wrong, inner, middle), torch.where(wrong, middle, outer)
        return outer
