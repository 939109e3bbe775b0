"""Checks of the gradient that white-box attacks follow."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import cross_entropy

from spearshield.judging.finding import Finding, severity_of
from spearshield.judging.checks.probe import Probe, share
from spearshield.losses.margin import margin_loss
from spearshield.rng import Rng
from spearshield.types import Labels, Mask, PerImage

ZEROS = (0.0, 0.05)
"""Share of images without a gradient. AutoAttack (Croce, Hein, 2020) and the indicators of Pintor
et al., 2022, flag a single one; a few may be dead units."""
DIRECTIONS, PROBED = 10, 20
"""Directions for each image, and images, of the comparison with finite differences."""
STEP_SIZES = (1e-3, 1e-4, 1e-5)
"""Root mean square of a finite step, a pixel. A long one meets kinks, a short one rounding."""
AWAY = 0.1
"""Share of noise in the points of the comparison. Where black pixels meet, maxima are tied and
rectifiers stand at zero: there an honest network has a gradient but no derivative."""
TINY = torch.finfo(torch.float32).tiny
FALSE, FALSE_SHARE = 0.05, 0.1
"""Relative error that makes a gradient false, and the share of images that may have one."""


def broken_graph(probe: Probe) -> Finding | None:
    """A gradient of the answer arrives at the image (Pintor et al., 2022)."""
    if not probe.cut:
        return None
    return Finding(
        "broken_graph",
        "high",
        {"images with a gradient": 0},
        "The graph is cut between image and answer: no white-box attack can run.",
        "remove detach, no_grad and NumPy from the purifier, or attack through the bpda view.",
    )


def zero_gradient(probe: Probe) -> Finding | None:
    """Some gradient is left at a random start, whatever the loss."""
    lost = share(_zero(probe, _margin))
    severity = severity_of(lost, *ZEROS)
    if severity is None:
        return None
    return Finding(
        "zero_gradient",
        severity,
        {"share of images": lost},
        "The gradient is exactly zero: the victim rounds, compares or cuts, and white-box attacks "
        "stay where they start.",
        "attack through the bpda view, by transfer and without gradients.",
    )


def saturated_gradient(probe: Probe) -> Finding | None:
    """The cross-entropy has a gradient wherever the margin has one."""
    faded = share(_zero(probe, _cross_entropy) & ~_zero(probe, _margin))
    severity = severity_of(faded, *ZEROS)
    if severity is None:
        return None
    return Finding(
        "saturated_gradient",
        severity,
        {"share of images": faded},
        "The victim is so sure of itself that the gradient of the cross-entropy rounds to zero.",
        "attack the margin or the DLR loss, which do not saturate.",
    )


def false_gradient(probe: Probe) -> Finding | None:
    """The gradient agrees with finite differences, through the whole victim."""
    error = _gradient_error(probe)
    wrong = share(error > FALSE)
    if wrong <= FALSE_SHARE:
        return None
    return Finding(
        "false_gradient",
        "high",
        {"share of images": wrong, "median relative error": float(error.median())},
        "What backpropagation returns is not the slope of the victim: a stand-in, or a wrong "
        "backward pass. Attacks climb another hill.",
        "attack the exact gradient as well as the stand-in, and without gradients.",
    )


def inner_optimisation(probe: Probe) -> Finding | None:
    """The victim computes no gradients of its own while it answers (Croce, Hein, 2020)."""
    used = 0

    def unpack(tensor: Tensor) -> Tensor:
        nonlocal used
        used += 1
        return tensor

    with torch.no_grad(), saved_tensors_hooks(lambda tensor: tensor, unpack):
        probe.ask(probe.x[:2])
    if not used:
        return None
    return Finding(
        "inner_optimisation",
        "low",
        {"tensors that gradients inside a forward pass needed": used},
        "The victim optimises at test time; standard attacks are often too weak for that.",
        "attack through the unrolled optimisation, and in the latent space if there is one.",
    )


def _margin(logits: Tensor, y: Labels) -> Tensor:
    return margin_loss(logits, y).sum()


def _cross_entropy(logits: Tensor, y: Labels) -> Tensor:
    return cross_entropy(logits, y, reduction="sum")


def _zero(probe: Probe, loss: Callable[[Tensor, Labels], Tensor]) -> Mask:
    """Images at whose random start the gradient of ``loss`` is exactly zero."""
    x = probe.start.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(loss(probe.still(x), probe.y), x)
    return (gradient == 0).flatten(1).all(1)


def _gradient_error(probe: Probe) -> PerImage:
    """Relative error of the directional derivatives of a random mixture of the logits.

    The least over three lengths of the step, and in units no smaller than what rounding explains.
    """
    rng = Rng.of_batch(0, min(PROBED, len(probe.x)), probe.x.device)
    x = torch.lerp(probe.start[:PROBED], rng.uniform(probe.x.shape[1:]).to(probe.x), AWAY)
    with torch.enable_grad():
        moved = x.detach().requires_grad_()
        logits = probe.still(moved)
        mixture = rng.normal(logits.shape[1:]).to(logits)
        (gradient,) = torch.autograd.grad((mixture * logits).sum(), moved)
    directions = [rng.fold(k).normal(x.shape[1:]).to(x) for k in range(1, DIRECTIONS + 1)]
    claimed = torch.stack([(gradient * d).flatten(1).sum(1) for d in directions], 1)
    rounding = torch.finfo(logits.dtype).eps * (mixture * logits).detach().abs().sum(1)

    def error(h: float) -> PerImage:
        with torch.no_grad():
            ends = [mixture * (probe.still(x + h * d) - probe.still(x - h * d)) for d in directions]
        found = torch.stack([end.sum(1) for end in ends], 1) / (2 * h)
        size = torch.maximum(claimed.norm(dim=1), found.norm(dim=1)) + 4 * rounding / h
        wrong: PerImage = (claimed - found).norm(dim=1) / size.clamp(min=TINY)
        return wrong

    return torch.stack([error(h) for h in STEP_SIZES]).amin(0)
