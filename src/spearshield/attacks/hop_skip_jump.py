"""HopSkipJump: an attack that sees only the predicted class.

Chen, Jordan, Wainwright, "HopSkipJumpAttack: A Query-Efficient Decision-Based Attack", 2020.
https://arxiv.org/abs/1904.02144
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spearshield.adversary import Attack, within
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.threat import L2
from spearshield.types import Classifier, Ids, Images, Labels, Mask, PerImage

FAR_IMAGES = 8
"""Number of images of uniform noise among the start images, at resolutions from fine to coarse."""
HALVINGS = 20
"""Maximum number of halvings of a step that ends at a correctly classified image."""
MAX_SAMPLES = 10000
"""Maximum number of queries for one estimate of the gradient, as in the authors' code."""
MAX_VALUES = 2**22
"""Approximate number of pixel values in one forward pass; limits memory, changes no result."""
ROUNDING = 1e-5
"""Smallest root mean square change of a pixel that a query is meant to test, for rounding."""


@dataclass(frozen=True)
class HopSkipJump(Attack):
    """The nearest adversarial image that the queries find; one farther than ``eps`` is projected.

    Each iteration (algorithm 2) moves the image to the decision boundary by bisection, estimates
    the direction of the gradient there from the classes of random neighbours, and takes a step that
    is halved until it ends at a misclassified image. The model is never differentiated, and only
    the class of the largest logit is used. ``threat.distance(x_adv, x)`` is the size of the
    perturbation. An image without success, or misclassified from the start, is returned unchanged.

    The start is the nearest misclassified image among the negative image, reflections of the image,
    black, white, and uniform noise at several resolutions. It depends on no other image of the
    batch. Two details differ from the paper: the neighbours are never nearer, and the bisection
    never finer, than float32 resolves; and a query outside [0, 1] is clamped.

    Args:
        queries: Maximum number of queries for each image.
        samples: Number of neighbours in the first estimate. It grows with the square root of the
            number of the iteration.
        gamma: Factor of the distance to the neighbours and of the tolerance of the bisection. With
            1, in d dimensions, the neighbours are at 1/d of the distance to the clean image.
        early_stop: Stop each image at its first success within ``eps``. Otherwise each image uses
            all queries, to minimise its distance.

    Raises:
        ValueError: ``queries`` or ``samples`` is below 1, or ``gamma`` is not positive.
    """

    gradient_free: ClassVar[bool] = True
    minimal: ClassVar[bool] = True

    queries: int = 5000
    samples: int = 100
    gamma: float = 1.0
    early_stop: bool = True

    def __post_init__(self) -> None:
        require(self, "queries", "samples", at_least=1)
        require(self, "gamma", above=0, below=math.inf)

    @torch.no_grad()
    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        victim = _Decisions(model, y, self.queries)
        everything = torch.arange(len(x), device=x.device)
        at_first = victim.wrong(x, everything)
        x_now = torch.where(at_first[:, None, None, None], x, self._start(victim, x, rng.fold(0)))
        best, best_distance = x_now.clone(), self.threat.distance(x_now, x)
        # An image at distance 0 is misclassified from the start, or no start image was.
        iteration = 0
        while len(left := ((best_distance > self._goal) & (victim.left > 0)).nonzero()[:, 0]):
            moved, clean = x_now[left], x[left]
            if iteration > 0:
                own = rng[left].fold(iteration)
                moved = self._jump(victim, moved, clean, left, iteration, own)
            moved = self._to_boundary(victim, moved, clean, left)
            distance = self.threat.distance(moved, clean)
            nearer = distance < best_distance[left]
            x_now[left] = moved
            best[left[nearer]], best_distance[left[nearer]] = moved[nearer], distance[nearer]
            iteration += 1
        return within(self.threat, best, x)

    @property
    def _goal(self) -> float:
        """The distance at which an image needs no further queries."""
        return self.threat.eps if self.early_stop else 0.0

    def _start(self, victim: _Decisions, x: Images, rng: Rng) -> Images:
        """The nearest misclassified start image; the image itself if there is none."""
        everything = torch.arange(len(x), device=x.device)
        start, nearest = x.clone(), torch.full_like(x[:, 0, 0, 0], math.inf)
        for far in _far_images(x, rng):
            distance = self.threat.distance(far, x)
            nearer = victim.wrong(far, everything) & (distance < nearest)
            start[nearer], nearest[nearer] = far[nearer], distance[nearer]
        return start

    def _to_boundary(self, victim: _Decisions, x_adv: Images, x: Images, rows: Ids) -> Images:
        """A misclassified image between the clean and a misclassified image, by bisection.

        It is the projection of ``x_adv`` into the smallest ball: on the line between the two images
        in L2, and in the box around the clean image in Linf.
        """
        outer = self.threat.distance(x_adv, x)
        inner, found = torch.zeros_like(outer), x_adv
        for _ in range(math.ceil(-math.log2(self._tolerance(x[0].numel())))):
            middle = (inner + outer) / 2
            candidate = self.threat.project_within(x_adv, x, middle)
            wrong = victim.wrong(candidate, rows)
            found = torch.where(wrong[:, None, None, None], candidate, found)
            inner, outer = torch.where(wrong, inner, middle), torch.where(wrong, middle, outer)
        return found

    def _tolerance(self, dimensions: int) -> float:
        """The width of the last interval of a bisection, as a fraction of the first."""
        exponent = 2 if self.threat.p == math.inf else 1.5
        return min(max(self.gamma / math.pow(dimensions, exponent), 1e-6), 0.5)

    def _jump(
        self, victim: _Decisions, x_now: Images, x: Images, rows: Ids, iteration: int, rng: Rng
    ) -> Images:
        """A misclassified image after a step away from the boundary; ``x_now`` without success."""
        distance = self.threat.distance(x_now, x)
        dimensions = x[0].numel()
        delta = (self.gamma * distance / dimensions).clamp(min=ROUNDING * dimensions**0.5)
        count = min(int(self.samples * iteration**0.5), MAX_SAMPLES)
        direction = self.threat.steepest_step(
            self._estimate(victim, x_now, delta, rows, count, rng)
        )
        length, landed = distance / iteration**0.5, x_now.clone()
        missing = torch.arange(len(x), device=x.device)
        for _ in range(HALVINGS):
            step = length[missing, None, None, None] * direction[missing]
            candidate = (x_now[missing] + step).clamp(0, 1)
            wrong = victim.wrong(candidate, rows[missing])
            landed[missing[wrong]] = candidate[wrong]
            missing = missing[~wrong]
            missing = missing[victim.left[rows[missing]] > 0]
            if len(missing) == 0:
                break
            length = length / 2
        return landed

    def _estimate(
        self, victim: _Decisions, x: Images, delta: PerImage, rows: Ids, count: int, rng: Rng
    ) -> Images:
        """The estimated direction in which images become misclassified (equations 9 and 16).

        The number of neighbours in a pass depends only on the size of an image, so that the draws
        of an image do not depend on its batch.
        """
        estimate = torch.empty_like(x)
        block = min(count, max(1, MAX_VALUES // x[0].numel()))
        together = max(1, MAX_VALUES // (block * x[0].numel()))
        for part in torch.split(torch.arange(len(x), device=x.device), together):
            plain, signed = torch.zeros_like(x[part]), torch.zeros_like(x[part])
            total, asked = (torch.zeros_like(delta[part]) for _ in range(2))
            for start in range(0, count, block):
                number = min(block, count - start)
                u = _neighbours(x[part], delta[part], number, rng[part].fold(start))
                reach = delta[part, None, None, None, None]
                wrong, queried = victim.answers(x[part, None] + reach * u, rows[part])
                sign = torch.where(wrong, 1.0, -1.0).to(x.dtype) * queried
                plain += (queried[..., None, None, None] * u).sum(1)
                signed += (sign[..., None, None, None] * u).sum(1)
                total, asked = total + sign.sum(1), asked + queried.sum(1)
            mean = total / asked.clamp(min=1)
            one_sided = (mean.abs() == 1)[:, None, None, None]
            mean = mean[:, None, None, None]
            estimate[part] = torch.where(one_sided, mean * plain, signed - mean * plain)
        return estimate


class _Decisions:
    """Says which images the model misclassifies, within a budget of queries for each image.

    ``left`` is the number of queries that each image has left.
    """

    def __init__(self, model: Classifier, y: Labels, queries: int) -> None:
        self.model, self.y = model, y
        self.left = torch.full_like(y, queries, dtype=torch.long)

    def wrong(self, candidates: Images, rows: Ids) -> Mask:
        """True for each candidate, one per image, that was queried and is misclassified."""
        wrong: Mask = self.answers(candidates[:, None], rows)[0][:, 0]
        return wrong

    def answers(
        self, candidates: Float[Tensor, "n q c h w"], rows: Ids
    ) -> tuple[Bool[Tensor, "n q"], Bool[Tensor, "n q"]]:
        """Whether each candidate is misclassified, and whether there was a query left for it."""
        place = torch.arange(candidates.shape[1], device=rows.device)
        asked = place < self.left[rows, None]
        wrong = torch.zeros_like(asked)
        if asked.any():
            labels = self.y[rows, None].expand_as(asked)
            wrong[asked] = self.model(candidates[asked]).argmax(1) != labels[asked]
        self.left[rows] -= asked.sum(1)
        return wrong, asked


def _far_images(x: Images, rng: Rng) -> list[Images]:
    """Images that depend on the clean image and its randomness alone, from likely to unlikely."""
    far = [1 - x, x.flip(3), x.flip(2), x.flip(2, 3), torch.zeros_like(x), torch.ones_like(x)]
    for number in range(FAR_IMAGES):
        side = 2 ** (number // 2)
        noise = rng.fold(number).uniform(x.shape[1:]).to(x)[:, :, ::side, ::side]
        blocks = noise.repeat_interleave(side, 2).repeat_interleave(side, 3)
        far.append(blocks[:, :, : x.shape[2], : x.shape[3]])
    return far


def _neighbours(x: Images, delta: PerImage, count: int, rng: Rng) -> Float[Tensor, "n count c h w"]:
    """Directions of L2 length 1, or shorter, to neighbours at distance ``delta`` in [0, 1]."""
    draws = rng.normal((count, *x.shape[1:])).to(x)
    u = L2(1.0).normalize(draws.flatten(0, 1)).view_as(draws)
    reach = delta[:, None, None, None, None]
    return ((x[:, None] + reach * u).clamp(0, 1) - x[:, None]) / reach
