"""Checks of the gradient that white-box attacks follow."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from spearshield.judging.checks.probe import Probe, share
from spearshield.judging.finding import Finding, severity_of
from spearshield.losses.margin import cross_entropy, margin_loss
from spearshield.rng import Rng
from spearshield.types import Labels, Mask, PerImage

ZERO_SHARE = (0.0, 0.05)
"""Share of images without a gradient: low and high. AutoAttack (Croce, Hein, 2020) and the
indicators of Pintor et al., 2022, flag a single image; here a few may have dead units."""
DIRECTIONS, PROBED = 10, 20
"""Numbers of directions per image, and of images, for the comparison with finite differences."""
STEP_SIZES = (3e-2, 1e-2, 1e-3, 1e-4, 1e-5)
"""Root mean square of a finite step, per pixel. A long step crosses kinks of the function; in a
short step rounding dominates, in a victim that rounds its input to 8 bits or to bfloat16 even in a
step of 1e-3."""
NOISE = 0.1
"""Share of noise in the compared points. In black regions, maxima are tied and the inputs of ReLUs
are zero: there a sound network has a gradient but no derivative."""
TINY = torch.finfo(torch.float32).tiny
FALSE, FALSE_SHARE = 0.2, 0.1
"""Relative error above which a gradient is false, and the share of images that may have one. The
error is 0.1 for an input that is rounded to 8 bits or to bfloat16 with the gradient of the
identity, and 0.4 for one that is rounded to 16 levels."""


def broken_graph(probe: Probe) -> Finding | None:
    """A finding if no gradient of the logits reaches the image (Pintor et al., 2022)."""
    if not probe.detached:
        return None
    return Finding(
        "broken_graph",
        "high",
        {"images with a gradient": 0},
        "The computation graph between image and logits is broken, so no white-box attack can run.",
        "remove detach, no_grad and NumPy from the purifier, or attack through the bpda view.",
    )


def zero_gradient(probe: Probe) -> Finding | None:
    """A finding if the gradient of the margin loss is exactly zero at a random start."""
    zero = share(_zero_gradient(probe, margin_loss))
    if severity := severity_of(zero, *ZERO_SHARE):
        return Finding(
            "zero_gradient",
            severity,
            {"share of images": zero},
            "The gradient is exactly zero, as after rounding or a comparison. White-box attacks "
            "stay at their random starts.",
            "attack through the bpda view, by transfer and without gradients.",
        )
    return None


def saturated_gradient(probe: Probe) -> Finding | None:
    """A finding if the cross-entropy has no gradient where the margin loss has one."""
    zero = _zero_gradient(probe, cross_entropy) & ~_zero_gradient(probe, margin_loss)
    if zero.any():
        return Finding(
            "saturated_gradient",
            "low",
            {"share of images": share(zero)},
            "The victim is so confident that the gradient of the cross-entropy rounds to zero.",
            "attack the margin or the DLR loss, which do not saturate.",
        )
    return None


def false_gradient(probe: Probe) -> Finding | None:
    """A finding if the gradient of the whole victim disagrees with finite differences."""
    error = _gradient_error(probe)
    wrong = share(error > FALSE)
    if wrong <= FALSE_SHARE:
        return None
    return Finding(
        "false_gradient",
        "high",
        {"share of images": wrong, "median relative error": float(error.median())},
        "Backpropagation does not return the gradient of the victim: it uses an approximation, or "
        "the backward pass is wrong. Attacks optimise another function.",
        "attack the exact gradient as well as the approximation, and without gradients.",
    )


def inner_optimisation(probe: Probe) -> Finding | None:
    """A finding if the victim computes gradients in its forward pass (Croce, Hein, 2020)."""
    used = 0

    def unpack(tensor: Tensor) -> Tensor:
        nonlocal used
        used += 1
        return tensor

    with torch.no_grad(), saved_tensors_hooks(lambda tensor: tensor, unpack):
        probe.deployed(probe.x[:2])
    if not used:
        return None
    return Finding(
        "inner_optimisation",
        "low",
        {"tensors used by gradients in a forward pass": used},
        "The victim optimises at test time. Standard attacks are often too weak for that.",
        "attack through the unrolled optimisation, and in the latent space if there is one.",
    )


def _zero_gradient(probe: Probe, loss: Callable[[Tensor, Labels], Tensor]) -> Mask:
    """True for each image with a gradient of ``loss`` of exactly zero at its random start."""
    x = probe.start.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(loss(probe.deterministic(x), probe.y).sum(), x)
    return (gradient == 0).flatten(1).all(1)


def _gradient_error(probe: Probe) -> PerImage:
    """Relative error of the directional derivatives of a random mixture of the logits.

    The smallest error over the step sizes, relative to a scale of at least the rounding error.
    """
    rng = Rng.of_batch(0, min(PROBED, len(probe.x)), probe.x.device)
    x = torch.lerp(probe.start[:PROBED], rng.uniform(probe.x.shape[1:]).to(probe.x), NOISE)
    with torch.enable_grad():
        points = x.detach().requires_grad_()
        logits = probe.deterministic(points)
        mixture = rng.normal(logits.shape[1:]).to(logits)
        (gradient,) = torch.autograd.grad((mixture * logits).sum(), points)
    directions = [rng.fold(k).normal(x.shape[1:]).to(x) for k in range(1, DIRECTIONS + 1)]
    derivatives = torch.stack([(gradient * d).flatten(1).sum(1) for d in directions], 1)
    rounding = torch.finfo(logits.dtype).eps * (mixture * logits).detach().abs().sum(1)

    @torch.no_grad()
    def error(h: float) -> PerImage:
        differences = [
            probe.deterministic(x + h * d) - probe.deterministic(x - h * d) for d in directions
        ]
        slopes = torch.stack([(mixture * each).sum(1) for each in differences], 1) / (2 * h)
        size = torch.maximum(derivatives.norm(dim=1), slopes.norm(dim=1)) + 4 * rounding / h
        wrong: PerImage = (derivatives - slopes).norm(dim=1) / size.clamp(min=TINY)
        return wrong

    return torch.stack([error(h) for h in STEP_SIZES]).amin(0)
