"""Test of a gradient: it must exist, be finite, not be zero, and agree with finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from spearshield.rng import Rng

DIRECTIONS, STEP_SIZES = 4, (1e-2, 1e-3)
"""Number of directions, and lengths of finite steps relative to the root mean square input."""
FALSE = 0.5
"""Relative error above which a gradient is false; kinks of deep networks cause smaller errors."""
ZERO_SHARE = 0.5
"""Share of inputs without a gradient above which the gradient is zero."""
TINY = 1e-12

GradientState: TypeAlias = Literal["sound", "false", "zero", "cut", "replaced", "failed"]
"""``replaced``: the gradient is not zero, and it is a surrogate, which need not agree with finite
differences. ``failed``: the function raises an error if it is differentiated."""


def state_of_gradient(
    trace: Callable[[Tensor], tuple[Tensor, int]], u: Tensor, rng: Rng
) -> GradientState:
    """The state of the gradient of a function at the inputs ``u``.

    Args:
        trace: Maps inputs to the function's outputs, and to the number of surrogate gradients in
            their graph.
        rng: Its key is the seed of the directions.
    """
    with torch.enable_grad():
        points = u.detach().clone().requires_grad_()
        try:
            v, used = trace(points)
            if not v.requires_grad:
                return "cut"
            weights = Rng.of_batch(rng.key, len(v), v.device).normal(v.shape[1:]).to(v)
            gradient = _gradient((v * weights).sum(), points)
        except Exception:  # noqa: BLE001 - whatever the user's network raises
            return "failed"
    if gradient is None:
        return "cut"
    if (gradient == 0).flatten(1).all(1).double().mean() > ZERO_SHARE:
        return "zero"
    finite = bool(gradient.isfinite().all())
    if used and finite:
        return "replaced"
    return "sound" if finite and _error(trace, u, gradient, weights, rng) <= FALSE else "false"


def _gradient(total: Tensor, u: Tensor) -> Tensor | None:
    """The gradient of a sum; ``None`` if the sum does not depend on ``u``."""
    (gradient,) = torch.autograd.grad(total, u, allow_unused=True)
    return gradient


@torch.no_grad()
def _error(
    trace: Callable[[Tensor], tuple[Tensor, int]],
    u: Tensor,
    gradient: Tensor,
    weights: Tensor,
    rng: Rng,
) -> float:
    """The median relative error of directional derivatives, at the better of the step sizes."""
    own = Rng.of_batch(rng.key, len(u), u.device)
    directions = [own.fold(k).normal(u.shape[1:]).to(u) for k in range(DIRECTIONS)]
    slopes = torch.stack([(gradient * d).flatten(1).sum(1) for d in directions], 1)
    errors = []
    for size in STEP_SIZES:
        h = size * float(u.square().mean().sqrt()) + TINY
        rises = [(trace(u + h * d)[0] - trace(u - h * d)[0]) * weights for d in directions]
        # An output need not have a row for each input row, so compare sums where they differ.
        found = torch.stack([rise.flatten(1).sum(1) for rise in rises], 1) / (2 * h)
        if len(found) != len(slopes):
            found, slopes = found.sum(0, keepdim=True), slopes.sum(0, keepdim=True)
        scale = torch.maximum(found.norm(dim=1), slopes.norm(dim=1)).clamp(min=TINY)
        errors.append(((found - slopes).norm(dim=1) / scale).median())
    return float(torch.stack(errors).min())
