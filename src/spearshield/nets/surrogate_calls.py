"""Operations of torch as values, and the choices among options that some of them make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad
from torch.utils._pytree import tree_map

RIVALS = 10
"""A choice is as soft as the spread of this many highest scores."""
SHARPNESS = 3.0
RESEMBLANCE = 0.5
"""Correlation of the output of a function with its input from which the identity replaces it."""
TINY = 1e-12


def straight_through(smooth: Tensor, value: Tensor) -> Tensor:
    """Exactly ``value``, with the gradient of ``smooth``, which must have the same shape."""
    with torch._C.DisableTorchFunction():
        smooth = smooth.nan_to_num()
        return value.detach() + (smooth - smooth.detach()).to(value.dtype)


def resembles(u: Tensor, v: Tensor) -> bool:
    """True if two tensors of one shape are correlated, so that the identity approximates a map."""
    a, b = (t.detach().double() - t.detach().double().mean() for t in (u, v))
    return bool((a * b).sum() >= RESEMBLANCE * a.norm() * b.norm())


@dataclass(frozen=True, eq=False)
class Choice:
    """Class ids or positions that an operation chose, as differentiable weights of all options.

    Args:
        weights: One-hot in the last dimension, with the gradient of a softmax.
    """

    weights: Tensor

    @staticmethod
    def of(scores: Tensor, chosen: Tensor) -> Choice:
        """The choice of the highest score in the last dimension."""
        options = scores.shape[-1]
        top = scores.detach().topk(min(RIVALS, options)).values
        spread = (top[..., :1] - top[..., -1:]).clamp(min=TINY)
        soft = (SHARPNESS * scores / spread).softmax(-1)
        return Choice(straight_through(soft, one_hot(chosen, options).to(soft)))

    @property
    def mean(self) -> Tensor:
        """The chosen number, as a weighted mean of all options."""
        return self.weights @ torch.arange(self.weights.shape[-1]).to(self.weights)

    def over(self, options: int) -> Tensor:
        """The weights of the first ``options`` options."""
        return pad(self.weights, (0, options - self.weights.shape[-1]))

    def lookup(self, table: Tensor) -> Tensor:
        """The weighted mean of the rows of a table."""
        flat = table.to(self.weights).flatten(1) if table.dim() > 1 else table.to(self.weights)
        return (self.weights @ flat).reshape(*self.weights.shape[:-1], *table.shape[1:])


@dataclass(frozen=True, eq=False)
class Call:
    """One operation with its arguments and its result.

    Args:
        shadow: Maps an argument to its differentiable float values.
        choice: Maps a tensor to its :class:`Choice`, or to ``None``.
    """

    func: Callable[..., Any]
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any
    shadow: Callable[[Any], Any]
    choice: Callable[[Any], Any]

    def first(self) -> Any:
        """The shadow of the first argument."""
        return self.shadow(self.args[0])

    def both(self) -> tuple[Any, Any]:
        """The shadows of the first two arguments."""
        other = self.args[1] if len(self.args) > 1 else self.kwargs.get("other")
        return self.first(), self.shadow(other)

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """An argument by its position or its name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)

    def with_shadows(self) -> Any:
        """The result of the same operation on shadows; ``None`` if it takes no floats."""
        args, kwargs = tree_map(self.shadow, (self.args, self.kwargs))
        try:
            return self.func(*args, **kwargs)
        except (RuntimeError, TypeError, IndexError, ValueError):
            return None


Rule: TypeAlias = Callable[[Call], Any]
"""Maps an operation to its smooth result: a tensor, a :class:`Choice`, a tuple of them, or ``None``
if it does not apply."""
