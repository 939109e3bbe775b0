"""A user's own purifier, as a module that is put in front of a classifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from spearshield import foreign
from spearshield.adversary import check_images
from spearshield.method import Defended
from spearshield.spelling import got
from spearshield.types import Images

PurifierSource: TypeAlias = "nn.Module | Callable[[Tensor], Tensor]"
"""A purifier as a user has it: a module or a function from images to images."""


class FunctionPurifier(nn.Module):
    """A purifier that calls a function from images to images."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Images) -> Any:
        return foreign.call(self.function, x, lead=_failure(self, x))


def as_purifier(purifier: PurifierSource) -> nn.Module:
    """A purifier as a module.

    Raises:
        ValueError: It cannot be called.
    """
    if isinstance(purifier, type) or not callable(purifier):
        raise ValueError(
            f"a purifier must be an nn.Module or a function from images to images, got "
            f"{got(purifier)}"
        )
    return purifier if isinstance(purifier, nn.Module) else FunctionPurifier(purifier)


def purifier_name(victim: Defended) -> str:
    """The names of the purifiers of a victim, in order."""
    return "_".join(map(_name, victim.purifiers))


def check_purifier(purifier: nn.Module, x: Images) -> None:
    """Raise unless a purifier maps images to images of the same shape.

    Args:
        x: Images in [0, 1] of shape (n, c, h, w).

    Raises:
        ForeignError: It raises an error.
        ValueError: Names the purifier and its output.
    """
    name = _name(purifier)
    with torch.no_grad():
        x_hat = foreign.call(purifier, x.clone(), lead=_failure(purifier, x))
    if not isinstance(x_hat, Tensor):
        raise ValueError(
            f"the purifier {name} returns {type(x_hat).__name__}; it must return a tensor of images"
        )
    if x_hat.shape != x.shape or x_hat.dtype != x.dtype:
        raise ValueError(
            f"the purifier {name} turns images of shape {tuple(x.shape)} and type {x.dtype} into "
            f"{tuple(x_hat.shape)} and {x_hat.dtype}; it must keep both"
        )
    try:
        check_images(x_hat)
    except ValueError as error:
        raise ValueError(
            f"the output of the purifier {name} is not an image: {error}; clamp it to [0, 1]"
        ) from error


def _failure(purifier: nn.Module, x: Images) -> str:
    return f"the purifier {_name(purifier)} fails on images of shape {tuple(x.shape)}"


def _name(purifier: nn.Module) -> str:
    """The name of the class or function of a purifier."""
    return foreign.name_of(
        purifier.function if isinstance(purifier, FunctionPurifier) else purifier
    )
