"""Models whose robustness is known in closed form, a norm, and a model that records its inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from spearshield.rng import Rng
from spearshield.threat import ThreatModel
from spearshield.types import Images, Labels, Logits, PerImage, Shape


def dual_exponent(threat: ThreatModel | type[ThreatModel]) -> float:
    """Exponent of the dual norm, which divides a linear model's margin to give a distance."""
    return {math.inf: 1.0, 2.0: 2.0, 1.0: math.inf}[threat.p]


@dataclass(frozen=True)
class L1(ThreatModel):
    """The sum of the absolute changes of all pixels is at most ``eps``.

    Not part of the package: it shows that one class adds a norm to every attack.
    """

    p = 1.0

    def steepest_step(self, gradient: Images) -> Images:
        flat = gradient.flatten(1)
        largest = flat.abs().argmax(1, keepdim=True)
        sign = flat.gather(1, largest).sign()
        return torch.zeros_like(flat).scatter(1, largest, sign).view_as(gradient)

    def clip(self, delta: Images) -> Images:
        """Soft thresholding at the threshold that leaves a sum of ``eps``."""
        flat = delta.flatten(1)
        ordered = flat.abs().sort(1, descending=True).values
        count = torch.arange(1, flat.shape[1] + 1)
        thresholds = (ordered.cumsum(1) - self.eps) / count
        last = (ordered > thresholds).sum(1, keepdim=True) - 1
        threshold = thresholds.gather(1, last.clamp(min=0)).clamp(min=0)
        return (flat.sign() * (flat.abs() - threshold).clamp(min=0)).view_as(delta)

    def sample_perturbation(self, x: Images, rng: Rng) -> Images:
        """A point of the simplex from exponential draws, with random signs and radius."""
        share = -(1 - rng.fold(0).uniform(x.shape[1:])).log()
        signs = 2 * rng.fold(1).integers(x.shape[1:], 2) - 1
        radius = rng.fold(2).uniform((1, 1, 1)) ** (1 / x[0].numel())
        return self.eps * radius * signs * share / share.sum((1, 2, 3), keepdim=True)

    def to_hyperplane(self, x: Images, gradient: Images, rise: PerImage) -> Images:
        """Pixels move as far as they can, in the order of their gradient, until it is enough."""
        w, x = (gradient * rise.sign()[:, None, None, None]).flatten(1), x.flatten(1)
        order = w.abs().argsort(1, descending=True)
        room = torch.where(w > 0, 1 - x, x).gather(1, order)
        gain = w.abs().gather(1, order)
        missing = rise.abs()[:, None] - (gain * room).cumsum(1) + gain * room
        moved = torch.minimum((missing / gain.clamp(min=1e-30)).clamp(min=0), room)
        delta = torch.zeros_like(w).scatter(1, order, torch.where(gain > 0, moved, 0.0))
        return (w.sign() * delta).view_as(gradient)


class HalfSpace(nn.Module):
    """Two classes separated by the plane ``w . x = b``, which contains the grey image."""

    def __init__(self, shape: Shape = (1, 4, 4)) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.linspace(-1.0, 1.6, math.prod(shape)).reshape(shape))
        self.b = nn.Parameter(self.w.detach().sum() / 2)

    def margin(self, x: Images) -> PerImage:
        return (x * self.w).flatten(1).sum(1) - self.b

    def forward(self, x: Images) -> Logits:
        return torch.stack([-self.margin(x), self.margin(x)], 1)

    def distance(self, x: Images, threat: ThreatModel) -> PerImage:
        """Distance from each image to the decision plane in the norm of ``threat``."""
        return self.margin(x).abs() / self.w.flatten().norm(dual_exponent(threat))

    @torch.no_grad()
    def images(self, n: int, threat: ThreatModel, distance: float) -> tuple[Images, Labels]:
        """Images at ``distance`` from the plane, well inside [0, 1], and their labels."""
        g = torch.Generator().manual_seed(0)
        x = 0.5 + 0.1 * (torch.rand(n, *self.w.shape, generator=g) - 0.5)
        y = torch.arange(n) % 2
        wanted = (2 * y - 1) * distance * self.w.flatten().norm(dual_exponent(threat))
        shift = (wanted - self.margin(x)) / self.w.square().sum()
        return x + shift[:, None, None, None] * self.w, y


class Fence(nn.Module):
    """Changes nothing, and rejects images whose last pixel is above ``limit``."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, x: Images) -> Images:
        return x

    def detection_score(self, x: Images) -> PerImage:
        return x[:, -1, -1, -1] - self.limit


class Affine(nn.Module):
    """An affine classifier with logits ``weight @ x + bias``."""

    def __init__(self, classes: int, shape: Shape = (1, 4, 4)) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(classes, math.prod(shape), generator=g))
        self.bias = nn.Parameter(-self.weight.detach().sum(1) / 2)

    def forward(self, x: Images) -> Logits:
        return x.flatten(1) @ self.weight.T + self.bias

    @torch.no_grad()
    def distance(self, x: Images, threat: ThreatModel) -> PerImage:
        """Distance from each image to the nearest other class in the norm of ``threat``."""
        logits = self(x)
        top, y = logits.max(1)
        gaps = top[:, None] - logits
        slopes = self.weight - self.weight[y][:, None]
        reach = gaps / slopes.norm(dual_exponent(threat), dim=2)
        return reach.scatter(1, y[:, None], math.inf).amin(1)


class Island(nn.Module):
    """Images of one pixel: class 1 if it is within 0.05 of 0.62, else class 0."""

    def forward(self, x: Images) -> Logits:
        depth = 0.05**2 - (x.flatten(1) - 0.62).square()
        return torch.cat([-depth, depth], 1)


class Watched:
    """A model that records the images it is given, in ``seen``."""

    def __init__(self, model):
        self.model, self.seen = model, []

    def __call__(self, x):
        self.seen.append(x.detach().clone())
        return self.model(x)
