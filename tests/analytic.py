"""Models whose robustness is known in closed form, and one that watches another."""

from __future__ import annotations

import math

import torch
from torch import nn

from spearshield.threat import L2, Linf, ThreatModel
from spearshield.types import Images, Labels, Logits, PerImage, Shape

DUAL = {L2: 2, Linf: 1}
"""The dual norm: what divides a linear model's margin to give a distance in a threat's norm."""


class HalfSpace(nn.Module):
    """Two classes split by the plane ``w . x = b``, which goes through mid-grey."""

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
        return self.margin(x).abs() / self.w.flatten().norm(DUAL[type(threat)])

    @torch.no_grad()
    def images(self, n: int, threat: ThreatModel, distance: float) -> tuple[Images, Labels]:
        """Images that lie ``distance`` from the plane, well inside [0, 1], and their labels."""
        g = torch.Generator().manual_seed(0)
        x = 0.5 + 0.1 * (torch.rand(n, *self.w.shape, generator=g) - 0.5)
        y = torch.arange(n) % 2
        wanted = (2 * y - 1) * distance * self.w.flatten().norm(DUAL[type(threat)])
        shift = (wanted - self.margin(x)) / self.w.square().sum()
        return x + shift[:, None, None, None] * self.w, y


class Fence(nn.Module):
    """Purifies nothing, and rejects images whose last pixel is above ``limit``."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, x: Images) -> Images:
        return x

    def detection_score(self, x: Images) -> PerImage:
        return x[:, -1, -1, -1] - self.limit


class Affine(nn.Module):
    """Classes that score ``weight @ x + bias``."""

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
        reach = gaps / slopes.norm(DUAL[type(threat)], dim=2)
        return reach.scatter(1, y[:, None], math.inf).amin(1)


class Island(nn.Module):
    """Images of one pixel: class 1 where it is within 0.05 of 0.62, else class 0."""

    def forward(self, x: Images) -> Logits:
        depth = 0.05**2 - (x.flatten(1) - 0.62).square()
        return torch.cat([-depth, depth], 1)


class Watched:
    """A model that notes the images it sees."""

    def __init__(self, model):
        self.model, self.seen = model, []

    def __call__(self, x):
        self.seen.append(x.detach().clone())
        return self.model(x)
