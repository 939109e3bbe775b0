"""Gradients of a model with respect to images, and the two ways in which they fail.

A model may cut the graph between images and logits, or return gradients that are not finite. All
attacks differentiate through this file, so all of them treat such models alike.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from spearshield import foreign
from spearshield.types import Classifier, Images, PerImage

_non_finite: ContextVar[list[int] | None] = ContextVar("_non_finite", default=None)
"""Numbers of gradients that the attack in progress has replaced; ``None`` outside of attacks."""


class NoGradientError(ValueError):
    """No gradient of the logits reaches the images, because the model cuts the graph."""

    def __init__(self) -> None:
        super().__init__(
            "no gradient reaches the images: the model cuts the graph between images and logits "
            "(detach, no_grad or NumPy); use an attack without gradients, such as Square, or for a "
            "purifier that cuts it the view bpda"
        )


class NonFiniteGradientWarning(RuntimeWarning):
    """Gradients were not finite; the attack took them as zero."""


@contextmanager
def recording() -> Iterator[None]:
    """A block in which operations are recorded for :func:`gradients`.

    Raises:
        NoGradientError: A model converts its input to NumPy.
    """
    try:
        with torch.enable_grad():
            yield
    except (RuntimeError, foreign.ForeignError) as error:
        if "numpy() on Tensor that requires grad" in str(error):
            raise NoGradientError from error
        raise


def gradients(value: PerImage, *inputs: Tensor, again: bool = False) -> tuple[Tensor, ...]:
    """The gradients of ``value.sum()`` with respect to each input, zero where they are not finite.

    Args:
        again: Keep the graph for another call.

    Raises:
        NoGradientError: ``value`` does not depend on one of the inputs.
        ForeignError: The backward pass of the model raises an error.
    """
    found: tuple[Tensor | None, ...] = (None,)
    if value.requires_grad:
        with torch.enable_grad():
            total = value.sum()
        found = foreign.call(
            torch.autograd.grad,
            total,
            inputs,
            retain_graph=again,
            allow_unused=True,
            lead="the backward pass of the model fails",
        )
    reached = [gradient for gradient in found if gradient is not None]
    if len(reached) < len(inputs):
        raise NoGradientError
    return tuple(map(finite, reached))


def passes_gradient(model: Classifier, x: Images) -> bool:
    """False if the model cuts the graph between images of shape (n, c, h, w) and logits."""
    try:
        with recording():
            x = x.detach().requires_grad_()
            gradients(model(x).sum(1), x)
    except NoGradientError:
        return False
    return True


def finite(gradient: Tensor) -> Tensor:
    """The gradient with zero in place of NaN and infinity.

    Warns:
        NonFiniteGradientWarning: Some were replaced. Inside an attack there is one warning at its
            end.
    """
    if gradient.sum().isfinite():  # one pass; the sum of finite numbers may still be infinite
        return gradient
    wrong = ~gradient.isfinite()
    if wrong.any():
        with one_warning():
            counts = _non_finite.get()
            assert counts is not None
            counts.append(int(wrong.sum()))
        gradient = gradient.masked_fill(wrong, 0.0)
    return gradient


@contextmanager
def one_warning() -> Iterator[None]:
    """A block that ends with one warning about all gradients in it that were not finite."""
    if _non_finite.get() is not None:
        yield
        return
    counts: list[int] = []
    token = _non_finite.set(counts)
    try:
        yield
    finally:
        _non_finite.reset(token)
    if counts:
        warnings.warn(
            f"{sum(counts)} pixel gradients were not finite and were taken as zero, so the attack "
            "may be weaker than it looks; look for a square root, a logarithm or a division at "
            "zero in the model",
            NonFiniteGradientWarning,
            stacklevel=4,
        )
