"""Threat models: the images that an attacker may submit in place of a clean image.

The only file that computes with norms. Attacks and the judge call the methods of
:class:`ThreatModel`, so a new norm is one subclass.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from spearshield.arguments import check_instance
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.spelling import budget, known
from spearshield.types import Column, Images, Mask, PerImage

TOLERANCE = 1e-5
"""Excess over ``eps`` that the judge accepts, for rounding errors."""


@dataclass(frozen=True)
class ThreatModel(abc.ABC):
    """All images in [0, 1] within distance ``eps`` of the clean image, in an Lp norm.

    A subclass is a norm; an instance is that norm with a budget. There is no separate object for
    the norm, because recipes, results and the command line always name both, and most operations
    need both. A subclass defines ``p``, :meth:`steepest_step`, :meth:`clip` and
    :meth:`sample_perturbation`; with ``p = 1`` also :meth:`to_hyperplane`. It is then available
    under its class name, see :meth:`named`.

    Args:
        eps: Largest allowed size of a perturbation, on the [0, 1] pixel scale. Any real number,
            also of NumPy or PyTorch; stored as a ``float``.

    Raises:
        ValueError: ``eps`` is not a number, or not positive and finite.
    """

    p: ClassVar[float]
    """Exponent of the norm; ``math.inf`` for the maximum norm."""

    eps: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", _real(self.eps, self.norm))
        require(self, "eps", above=0, below=math.inf)

    @staticmethod
    def check(threat: object) -> None:
        """Raise unless ``threat`` is a threat model.

        Raises:
            ValueError: It is of another type, such as a number or a class.
        """
        check_instance(threat, ThreatModel, "the threat model as Linf(8 / 255) or L2(0.5)")

    @staticmethod
    def norms() -> dict[str, type[ThreatModel]]:
        """All norms by name: the subclasses that have been imported, in order of definition."""
        return {norm.__name__: norm for norm in ThreatModel.__subclasses__()}

    @staticmethod
    def named(norm: str, eps: float) -> ThreatModel:
        """The threat model with norm ``norm`` and budget ``eps``.

        Args:
            norm: Its name, such as ``Linf``, in any spelling, such as ``l_inf`` or ``L∞``.

        Raises:
            ValueError: There is no such norm; the message lists the norms.
        """
        norms = ThreatModel.norms()
        return norms[known(norm, norms, "norm")](eps)

    @property
    def norm(self) -> str:
        """Name of the norm, as in results and on the command line: the name of the class."""
        return type(self).__name__

    def __str__(self) -> str:
        """Norm and budget, as tables have them, such as ``Linf 8/255``."""
        return f"{self.norm} {budget(self.eps)}"

    @abc.abstractmethod
    def steepest_step(self, gradient: Images) -> Images:
        """Perturbation of size 1 with the largest inner product with ``gradient``.

        Zero where the gradient of an image is zero.
        """

    @abc.abstractmethod
    def clip(self, delta: Images) -> Images:
        """The perturbation of size at most ``eps`` that is nearest to ``delta``, in L2."""

    @abc.abstractmethod
    def sample_perturbation(self, x: Images, rng: Rng) -> Images:
        """A perturbation for each image, drawn uniformly from the ball of radius ``eps``."""

    def size(self, delta: Images) -> PerImage:
        """Norm of the perturbation of each image."""
        size: PerImage = torch.linalg.vector_norm(delta, self.p, dim=(1, 2, 3))
        return size

    def diameter(self, x: Images) -> float:
        """Largest distance between images with the shape of ``x``: from black to white."""
        return float(x[0].numel() ** (1 / self.p))

    def distance(self, x_adv: Images, x: Images) -> PerImage:
        """Norm of the difference between each pair of images."""
        return self.size(x_adv - x)

    def normalize(self, delta: Images) -> Images:
        """The perturbation of each image divided by its size; zero stays zero."""
        # Squares of a confident model's gradient underflow in float32, hence two divisions.
        largest = delta.abs().amax((1, 2, 3), keepdim=True)
        delta = delta / largest.clamp(min=torch.finfo(delta.dtype).tiny)
        return delta / self.size(delta)[:, None, None, None].clamp(min=1e-12)

    def dual_norm(self, gradient: Images) -> PerImage:
        """Largest increase of a linear function with this gradient under a step of size 1."""
        return (gradient * self.steepest_step(gradient)).flatten(1).sum(1)

    def project(self, x_adv: Images, x: Images) -> Images:
        """``x_adv`` moved into the threat model around ``x``.

        Clamping to [0, 1] comes last. It moves no pixel away from ``x``, which is in [0, 1], so the
        perturbation does not grow.
        """
        return (x + self.clip(x_adv - x)).clamp(0, 1)

    def project_within(self, x_adv: Images, x: Images, radius: PerImage) -> Images:
        """``x_adv`` projected into a ball with a radius of its own around each image of ``x``."""
        scale = (radius / self.eps).clamp(1e-9, 1e9)[:, None, None, None]
        return (x + scale * self.clip((x_adv - x) / scale)).clamp(0, 1)

    def step(self, x_adv: Images, x: Images, gradient: Images, size: float | Column) -> Images:
        """Projected steepest ascent: ``x_adv`` after a step of length ``size``."""
        return self.project(x_adv + size * self.steepest_step(gradient), x)

    def random_start(self, x: Images, rng: Rng) -> Images:
        """A random image of the threat model around each image of ``x``."""
        return self.project(x + self.sample_perturbation(x, rng), x)

    def to_hyperplane(self, x: Images, gradient: Images, rise: PerImage) -> Images:
        """The smallest perturbation that changes ``gradient . x`` by ``rise`` and stays in [0, 1].

        Where [0, 1] does not allow such a change, the perturbation changes ``gradient . x`` as far
        as possible. Each pixel moves by ``min(level * |gradient| ** (1 / (p - 1)), room)``, where
        ``room`` is its distance to the end of [0, 1] in the direction of the change.
        """
        largest = gradient.abs().amax((1, 2, 3)).clamp(min=torch.finfo(gradient.dtype).tiny)
        w = (gradient * (rise.sign() / largest)[:, None, None, None]).flatten(1)
        sign, x = w.sign(), x.flatten(1)
        # 1 - x upwards, x downwards; ``where`` is ten times slower.
        room = (1 + sign) / 2 - sign * x
        speed = w.abs() ** (1 / (self.p - 1))
        full = room / speed.clamp(min=torch.finfo(w.dtype).tiny)
        level = _solve_level(w.abs() * speed, full, rise.abs() / largest)
        return (sign * torch.minimum(level[:, None] * speed, room)).view_as(gradient)

    def contains(self, x_adv: Images, x: Images, tolerance: float = TOLERANCE) -> Mask:
        """True for each image that the attacker may submit; False if a pixel is NaN.

        Args:
            tolerance: Allowed excess over ``eps``, for rounding errors.
        """
        # Comparisons with NaN are false, and the smallest and largest pixel keep a NaN.
        in_range = (x_adv.amin((1, 2, 3)) >= 0) & (x_adv.amax((1, 2, 3)) <= 1)
        return in_range & (self.distance(x_adv, x) <= self.eps + tolerance)


@dataclass(frozen=True)
class Linf(ThreatModel):
    """No pixel changes by more than ``eps``.

    Raises:
        ValueError: ``eps`` is not a number in (0, 1], the range of a pixel.
    """

    p = math.inf

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eps > 1:
            raise ValueError(
                f"{self} is more than the whole range of a pixel; budgets are on the [0, 1] pixel "
                f"scale, as in Linf({self.eps:g} / 255) or --eps {self.eps:g}/255"
            )

    def size(self, delta: Images) -> PerImage:
        return delta.abs().amax((1, 2, 3))  # eight times as fast as ``vector_norm``

    def steepest_step(self, gradient: Images) -> Images:
        return gradient.sign()

    def clip(self, delta: Images) -> Images:
        return delta.clamp(-self.eps, self.eps)

    def sample_perturbation(self, x: Images, rng: Rng) -> Images:
        return rng.uniform(x.shape[1:], -self.eps, self.eps)


@dataclass(frozen=True)
class L2(ThreatModel):
    """The Euclidean norm of the perturbation, over all pixels and channels, is at most ``eps``."""

    p = 2.0

    def steepest_step(self, gradient: Images) -> Images:
        return self.normalize(gradient)

    def clip(self, delta: Images) -> Images:
        shrink = (self.eps / norm2(delta).clamp(min=1e-12)).clamp(max=1)
        return shrink * delta

    def sample_perturbation(self, x: Images, rng: Rng) -> Images:
        direction = self.normalize(rng.fold(0).normal(x.shape[1:]))
        radius = rng.fold(1).uniform((1, 1, 1)) ** (1 / x[0].numel())
        return self.eps * radius * direction


def _real(eps: object, norm: str) -> float:
    """``eps`` as a ``float``."""
    if isinstance(eps, (Tensor, np.ndarray, np.generic)) and math.prod(eps.shape) == 1:
        eps = eps.item()
    if isinstance(eps, bool) or not isinstance(eps, Real):
        raise ValueError(f"eps must be a number, as in {norm}(8 / 255), got {eps!r}")
    try:
        return float(eps)
    except OverflowError:
        return math.inf


def norm2(x: Images) -> Column:
    """Euclidean norm of each image, with shape ``(n, 1, 1, 1)``."""
    norm: Column = torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True)
    return norm


def _solve_level(
    gain: Float[Tensor, "n d"], full: Float[Tensor, "n d"], rise: PerImage
) -> PerImage:
    """The level at which the sum of ``gain * min(level, full)`` is ``rise``; huge if none exists.

    Newton's method from below. The sum is concave and piecewise linear in the level, so a step ends
    at the solution once no further pixel becomes full. This takes a few passes over the pixels,
    which is faster than sorting them.
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
