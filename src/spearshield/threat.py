"""Threat models: which images an attacker may submit in place of a clean one.

The only file with norm arithmetic.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass

import torch

from spearshield.rng import Rng
from spearshield.types import Column, Images, Mask, PerImage


@dataclass(frozen=True)
class ThreatModel(abc.ABC):
    """All images of [0, 1] within ``eps`` of the clean one, in some norm.

    Args:
        eps: The budget, on the [0, 1] pixel scale.

    Raises:
        ValueError: ``eps`` is not a positive finite number.
    """

    eps: float

    def __post_init__(self) -> None:
        if not 0 < self.eps < math.inf:
            raise ValueError(f"eps must be positive and finite, got {self.eps}")

    @abc.abstractmethod
    def distance(self, x_adv: Images, x: Images) -> PerImage:
        """Size of the perturbation of each image."""

    @abc.abstractmethod
    def steepest_step(self, gradient: Images) -> Images:
        """Unit step of the norm that raises a linear function most."""

    @abc.abstractmethod
    def clip(self, delta: Images) -> Images:
        """Nearest perturbation of size at most ``eps``."""

    @abc.abstractmethod
    def sample_perturbation(self, x: Images, rng: Rng) -> Images:
        """A perturbation for each image, uniform in the ball of radius ``eps``."""

    def project(self, x_adv: Images, x: Images) -> Images:
        """Map ``x_adv`` into the threat model around ``x``.

        Clamping to [0, 1] comes last: it moves no pixel away from the clean image, which lies in
        [0, 1] itself, so the perturbation cannot grow.
        """
        return (x + self.clip(x_adv - x)).clamp(0, 1)

    def contains(self, x_adv: Images, x: Images, tolerance: float = 1e-5) -> Mask:
        """Which images the attacker was allowed to submit. A NaN is never allowed.

        Args:
            tolerance: Slack for rounding, as after a trip through 8 bits.
        """
        in_range = ((x_adv >= 0) & (x_adv <= 1)).flatten(1).all(1)
        return in_range & (self.distance(x_adv, x) <= self.eps + tolerance)


@dataclass(frozen=True)
class Linf(ThreatModel):
    """No pixel changes by more than ``eps``."""

    def distance(self, x_adv: Images, x: Images) -> PerImage:
        return (x_adv - x).abs().flatten(1).amax(1)

    def steepest_step(self, gradient: Images) -> Images:
        return gradient.sign()

    def clip(self, delta: Images) -> Images:
        return delta.clamp(-self.eps, self.eps)

    def sample_perturbation(self, x: Images, rng: Rng) -> Images:
        return rng.uniform(x.shape[1:], -self.eps, self.eps)


@dataclass(frozen=True)
class L2(ThreatModel):
    """The perturbation's Euclidean norm, over all pixels and channels, is at most ``eps``."""

    def distance(self, x_adv: Images, x: Images) -> PerImage:
        return norm2(x_adv - x).flatten()

    def steepest_step(self, gradient: Images) -> Images:
        # A confident model's gradient is so faint that its squares vanish in float32.
        largest = gradient.abs().amax((1, 2, 3), keepdim=True)
        gradient = gradient / largest.clamp(min=torch.finfo(gradient.dtype).tiny)
        return gradient / norm2(gradient).clamp(min=1e-12)

    def clip(self, delta: Images) -> Images:
        shrink = (self.eps / norm2(delta).clamp(min=1e-12)).clamp(max=1)
        return shrink * delta

    def sample_perturbation(self, x: Images, rng: Rng) -> Images:
        direction = self.steepest_step(rng.fold(0).normal(x.shape[1:]))
        radius = rng.fold(1).uniform((1, 1, 1)) ** (1 / x[0].numel())
        return self.eps * radius * direction


def norm2(x: Images) -> Column:
    """Euclidean norm of each image, shaped ``(n, 1, 1, 1)``."""
    norm: Column = torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True)
    return norm
