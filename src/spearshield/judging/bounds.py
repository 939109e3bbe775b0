"""Bounds of the values that a network computes, for every image of a threat model at once.

A network is a graph of :class:`Node`. Each node bounds its values from the bounds of its parts
(interval bound propagation), and :func:`lower_bound` bounds a linear function of a node's values by
going back to the image through linear bounds of every node:

Gowal et al., "On the Effectiveness of Interval Bound Propagation for Training Verifiably Robust
Models", 2018, https://arxiv.org/abs/1810.12715;
Zhang, Weng, Chen, Hsieh, Daniel, "Efficient Neural Network Robustness Certification with General
Activation Functions" (CROWN), 2018, https://arxiv.org/abs/1811.00866.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from spearshield.threat import ThreatModel
from spearshield.types import Images

Values: TypeAlias = Float[Tensor, "n ..."]
Functionals: TypeAlias = Float[Tensor, "m n ..."]
"""The coefficients of ``m`` linear functions of the values of each image."""
PerFunctional: TypeAlias = Float[Tensor, "m n"]

FLOOR = 2.0**-36
"""Relative widening of every bound, for the rounding errors of the float64 bounds themselves."""
TINY = 1e-30
"""Absolute widening of every bound, for products that underflow."""


class Node(abc.ABC):
    """The values of one operation, for a batch of images.

    ``lower`` and ``upper``, in float64, are set by :meth:`bound`. They hold for the values of the
    deployed network with its rounding errors. ``slack`` bounds the rounding error of this operation
    alone.

    Args:
        parts: The nodes that the operation takes.
    """

    shape: torch.Size
    lower: Values
    upper: Values
    slack: Values

    def __init__(self, *parts: Node) -> None:
        self.parts = parts
        self.depth: int = 1 + max((part.depth for part in parts), default=0)

    @abc.abstractmethod
    def bound(self) -> None:
        """Set ``lower``, ``upper`` and ``slack`` from the bounds of the parts."""

    @abc.abstractmethod
    def pull(self, functional: Functionals) -> tuple[PerFunctional, tuple[Functionals, ...]]:
        """A lower bound of the functionals: a constant, and functionals of each part.

        The rounding error of this operation is not yet subtracted.
        """

    def constant_bound(self, functional: Functionals) -> PerFunctional:
        """A lower bound of the functionals from ``lower`` and ``upper``."""
        low, high = functional.clamp(min=0) * self.lower, functional.clamp(max=0) * self.upper
        return _total(low + high)

    def widen(self, relative: float, magnitude: Values) -> None:
        """Set the slack to a part of ``magnitude``, and move the bounds apart by it."""
        self.slack = (relative + FLOOR) * magnitude + TINY
        self.lower, self.upper = self.lower - self.slack, self.upper + self.slack

    def largest(self) -> Values:
        """The largest absolute value that the bounds allow."""
        return torch.maximum(self.lower.abs(), self.upper.abs())


class Input(Node):
    """The images of a threat model around each clean image."""

    def __init__(self, x: Images, threat: ThreatModel) -> None:
        super().__init__()
        self.x, self.threat, self.shape = x.double(), threat, x.shape

    def bound(self) -> None:
        # No pixel changes by more than the size of the perturbation, in every norm.
        self.lower = (self.x - self.threat.eps).clamp(0, 1)
        self.upper = (self.x + self.threat.eps).clamp(0, 1)
        self.widen(0.0, torch.ones_like(self.x))

    def pull(self, functional: Functionals) -> tuple[PerFunctional, tuple[Functionals, ...]]:
        fall = self.threat.eps * self.threat.dual_norm(functional.flatten(0, 1))
        ball = _total(functional * self.x) - fall.view(functional.shape[:2])
        return torch.maximum(ball, self.constant_bound(functional)), ()


class Affine(Node):
    """An affine operation.

    Args:
        apply: The operation in float64, with one argument for each part.
        parts: The nodes that it takes.
        roundings: Bound on the relative error of the operation in the deployed network, as a factor
            of its magnitude.
        spread: The linear part with absolute coefficients, with one argument for each part; by
            default for operations in which each output depends on parts with coefficients of one
            sign for each part.
        offset: Absolute values that are added, for the magnitude; by default the value at zero.
    """

    def __init__(
        self,
        apply: Callable[..., Tensor],
        *parts: Node,
        roundings: float,
        spread: Callable[..., Tensor] | None = None,
        offset: Tensor | None = None,
    ) -> None:
        super().__init__(*parts)
        self.apply, self.roundings = apply, roundings
        self.spread = spread or self._spread
        self.offset = offset

    def bound(self) -> None:
        centre = self.apply(*((part.lower + part.upper) / 2 for part in self.parts))
        radius = self.spread(*((part.upper - part.lower) / 2 for part in self.parts))
        offset = self._at_zero().abs() if self.offset is None else self.offset
        self.lower, self.upper = centre - radius, centre + radius
        self.widen(self.roundings, self.spread(*(part.largest() for part in self.parts)) + offset)

    def pull(self, functional: Functionals) -> tuple[PerFunctional, tuple[Functionals, ...]]:
        with torch.enable_grad():
            zeros = [torch.zeros_like(part.lower).requires_grad_() for part in self.parts]
            offset = self.apply(*zeros)
            pulled = torch.autograd.grad(offset, zeros, functional, is_grads_batched=True)
        return _total(functional * offset.detach()), pulled

    def _at_zero(self) -> Values:
        return self.apply(*(torch.zeros_like(part.lower) for part in self.parts))

    def _spread(self, *radii: Values) -> Values:
        offset, zeros = self._at_zero(), [torch.zeros_like(radius) for radius in radii]
        total = torch.zeros_like(offset)
        for place, radius in enumerate(radii):
            alone = [*zeros[:place], radius, *zeros[place + 1 :]]
            total = total + (self.apply(*alone) - offset).abs()
        return total


class Monotone(Node):
    """A nondecreasing operation, whose linear bounds are constants.

    Args:
        apply: The operation in float64, with one argument for each part.
        parts: The nodes that it takes.
        roundings: Bound on the error of the operation in the deployed network, as a factor of the
            largest value plus one.
    """

    def __init__(self, apply: Callable[..., Tensor], *parts: Node, roundings: float) -> None:
        super().__init__(*parts)
        self.apply, self.roundings = apply, roundings

    def bound(self) -> None:
        self.lower = self.apply(*(part.lower for part in self.parts))
        self.upper = self.apply(*(part.upper for part in self.parts))
        self.widen(self.roundings, self.largest() + 1)

    def pull(self, functional: Functionals) -> tuple[PerFunctional, tuple[Functionals, ...]]:
        return self.constant_bound(functional), ()


class Rectifier(Node):
    """``max(z, slope * z)``, with the linear bounds of CROWN.

    Args:
        part: The node of ``z``.
        slope: Slope for negative values, in [0, 1].
        roundings: Bound on the relative error in the deployed network.
    """

    def __init__(self, part: Node, slope: float, roundings: float) -> None:
        super().__init__(part)
        self.slope, self.roundings = slope, roundings

    def bound(self) -> None:
        (part,) = self.parts
        self.lower, self.upper = (
            torch.maximum(z, self.slope * z) for z in (part.lower, part.upper)
        )
        self.widen(self.roundings, part.largest())

    def pull(self, functional: Functionals) -> tuple[PerFunctional, tuple[Functionals, ...]]:
        low, high = self.parts[0].lower, self.parts[0].upper
        low_value, high_value = (torch.maximum(z, self.slope * z) for z in (low, high))
        # Above: the chord. Below: a line through zero, of the slope that is nearer to the chord.
        chord = (high_value - low_value) / (high - low).clamp(min=torch.finfo(low.dtype).tiny)
        line = torch.full_like(low, self.slope).masked_fill(high > -low, 1.0)
        above = low_value - chord * low
        rising, falling = functional.clamp(min=0), functional.clamp(max=0)
        constant = _total(falling * above)
        return constant, (rising * line + falling * chord,)


def lower_bound(node: Node, functional: Functionals, *, affine_only: bool = False) -> PerFunctional:
    """A lower bound of linear functions of the values of a node, over all images of its input.

    Every node that it depends on has been bounded. At every node on the way back to the image, the
    interval bounds of the nodes reached so far give a bound too, and the largest one is returned.
    For a network that was trained on interval bounds it is often one of the last layers'.

    Args:
        affine_only: Go back through the affine operations at the end only.
    """
    total = functional.new_zeros(functional.shape[:2])
    pending, best = {node: functional}, node.constant_bound(functional)
    while pending:
        last = max(pending, key=lambda reached: reached.depth)
        if affine_only and not isinstance(last, (Affine, Input)):
            break
        coefficients = pending.pop(last)
        constant, pulled = last.pull(coefficients)
        total = total + constant - _total(coefficients.abs() * last.slack)
        for part, own in zip(last.parts, pulled, strict=False):
            pending[part] = pending[part] + own if part in pending else own
        rest = sum(part.constant_bound(own) for part, own in pending.items())
        best = torch.maximum(best, total + rest)
    return best


def value_range(node: Node, functional: Functionals) -> tuple[PerFunctional, PerFunctional]:
    """A lower and an upper bound of linear functions of the values of a node."""
    if isinstance(node, Affine) and len(node.parts) == 1:  # both bounds pull the same functional
        constant, (pulled,) = node.pull(functional)
        error = _total(functional.abs() * node.slack)
        low, high = value_range(node.parts[0], pulled)
        return low + constant - error, high + constant + error
    return lower_bound(node, functional), -lower_bound(node, -functional)


def _total(values: Functionals) -> PerFunctional:
    """The sum over the values of each image."""
    return values.reshape(*values.shape[:2], -1).sum(2)


def rounding(count: int, dtype: torch.dtype) -> float:
    """Bound on the relative error of ``count`` operations in ``dtype``, in any order.

    Higham, "Accuracy and Stability of Numerical Algorithms", 2002,
    https://doi.org/10.1137/1.9780898718027, lemma 3.1.
    """
    error = count * torch.finfo(dtype).eps / 2
    return error / (1 - error) if error < 1 else math.inf
