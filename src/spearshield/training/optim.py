"""One optimiser step, and learning-rate schedules as pure functions of the step."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spearshield import foreign
from spearshield.gradients import NoGradientError


def minimise(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step of ``optimiser`` on ``loss``.

    Raises:
        NoGradientError: No gradient of the loss reaches a weight.
        ForeignError: The backward pass of the classifier raises an error.
    """
    if not loss.requires_grad:
        raise NoGradientError
    optimiser.zero_grad()
    foreign.call(loss.backward, lead="the backward pass of the training fails")
    optimiser.step()


def set_lr(lr: float, *optimisers: torch.optim.Optimizer) -> None:
    """Set the learning rate of all parameters of ``optimisers``."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = lr


def cosine(lr: float, step: int, decay_steps: int, hold_steps: int = 0) -> float:
    """The learning rate at ``step``: constant at first, then a half cosine from ``lr`` to zero.

    Args:
        decay_steps: Length of the half cosine; 0: the learning rate is constant.
        hold_steps: Number of steps before the half cosine.
    """
    if decay_steps == 0:
        return lr
    share = min(max(step - hold_steps, 0) / decay_steps, 1.0)
    return lr * 0.5 * (1 + math.cos(math.pi * share))
