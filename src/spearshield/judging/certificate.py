"""Certificates: images of which no change within a threat model changes the class."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spearshield.adversary import as_images, check_images
from spearshield.judging.bounded_operations import NotCertifiable
from spearshield.judging.bounds import Input, Node, Rectifier, lower_bound, value_range
from spearshield.judging.traced import trace
from spearshield.threat import TOLERANCE, ThreatModel
from spearshield.types import Images, Labels, Mask

__all__ = ["NotCertifiable", "certify"]

Effort: TypeAlias = Literal["intervals", "differences", "layers"]

EFFORTS: tuple[Effort, ...] = ("intervals", "differences", "layers")
CHUNK = 16
"""Number of images that are bounded together; limits memory, changes no result."""
MAX_VALUES = 2**20
"""Approximate number of coefficients of linear functions in memory at once."""
MAX_COST = 2**28
"""Largest number of coefficients, for a batch, that are computed for the bounds of one layer.

The bounds of larger layers are those of interval bound propagation.
"""
MAX_WORK = 2**32
"""Largest number of coefficients, for an image, of linear bounds of all rectified layers.

Networks with more, such as a ResNet-20, would take more than ten minutes for an image.
"""


@torch.no_grad()
def certify(
    model: nn.Module, x: Images, y: Labels, threat: ThreatModel, closest: int | None = None
) -> Mask:
    """True for each image that is classified as ``y``, whatever image of ``threat`` replaces it.

    A proof, not an attack: True holds for every image that :meth:`ThreatModel.contains` accepts
    around ``x``, including its tolerance. False means that there is no proof, not that there is an
    adversarial image. Networks that were not trained for a certificate have few proofs.

    First by interval bound propagation, in which the affine end of the network is merged with the
    differences of logits. Images that remain unproved are tried again with linear bounds of these
    differences (CROWN-IBP), and then with linear bounds of every rectified layer (CROWN), unless
    these have more than ``MAX_WORK`` coefficients for an image.

    The proof is for the rounded arithmetic of the deployed network. Bounds are in float64, and
    every operation is widened by the worst case of its rounding errors in its own type: a sum of n
    products by ``n * u / (1 - n * u)`` of the sum of their absolute values, with u = 6e-8 for
    float32. This holds for sums in any order, with or without fused multiplications, but not for
    convolutions by Winograd's or Fourier's transform, nor for TF32. Exponential functions may be
    wrong by 16 roundings. Every bound is further widened by 1.5e-11 of its magnitude for its own
    rounding errors.

    The network may combine linear layers, convolutions, batch normalisation in evaluation mode,
    ReLU, leaky ReLU, ReLU6, ELU, sigmoid, tanh, hard tanh, maximum and average pooling, bilinear
    resizing, padding, residual sums, concatenation and reshaping, as layers, functions or hooks.
    It must be a deterministic function of its input, without effects on other calls.

    Args:
        model: Maps images in [0, 1] of shape (n, c, h, w) to logits of shape (n, k).
        x: Clean images of shape (n, c, h, w).
        y: Their labels of shape (n,).
        threat: The threat model, in any Lp norm with p >= 1.
        closest: Try linear bounds of every rectified layer, which take by far the longest, only for
            so many images: those whose other bounds are closest to a proof. ``None``: for all.

    Raises:
        NotCertifiable: The model has an operation that cannot be bounded; the message names it.
        ValueError: ``x`` is not in [0, 1].
    """
    x = as_images(x)
    check_images(x)
    # The tolerance of the judge, and the rounding of the distance that it computes.
    threat = replace(threat, eps=(threat.eps + TOLERANCE) * (1 + 1e-6))
    margins = torch.full((len(x),), -math.inf, dtype=torch.float64, device=x.device)
    for effort in EFFORTS:
        left = (margins <= 0).nonzero()[:, 0]
        if len(left) == 0:
            break
        if effort == "layers" and closest is not None:
            left = left[margins[left].topk(min(closest, len(left))).indices]
        for part in torch.split(left, CHUNK):
            right = part[model(x[part]).argmax(1) == y[part]]
            if len(right) > 0:
                margins[right] = _margins(model, x[right], y[right], threat, effort)
    return margins > 0


def _margins(
    model: nn.Module, x: Images, y: Labels, threat: ThreatModel, effort: Effort
) -> Float[Tensor, " n"]:
    """Lower bounds of the logit of ``y`` minus the highest other logit.

    A positive one is a proof. ``effort`` chooses the bounds.
    """
    alone = len(x) == 1
    if alone:  # two images show an operation that combines the images of a batch
        x, y = x.expand(2, -1, -1, -1), y.expand(2)
    logits = trace(model, Input(x, threat))
    if effort == "layers" and _work(logits) > MAX_WORK:
        return x.new_full((1 if alone else len(x),), -math.inf, dtype=torch.float64)
    for node in _in_order(logits):
        if effort == "layers" and isinstance(node, Rectifier):
            _tighten(node.parts[0])
        node.bound()
    classes = logits.shape[1]
    one = torch.eye(classes, dtype=torch.float64, device=x.device)
    other = torch.arange(classes, device=x.device)[:, None] != y
    differences = one[y] - one[:, None]
    near = effort == "intervals" or classes * _largest(logits) > MAX_COST
    rows = torch.split(differences, max(1, MAX_VALUES // _largest(logits)))
    margins = torch.cat([lower_bound(logits, part, affine_only=near) for part in rows])
    margins = margins.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)
    lowest: Tensor = margins.masked_fill(~other, math.inf).amin(0)
    return lowest[:1] if alone else lowest


def _in_order(node: Node) -> Iterator[Node]:
    """All nodes that a node depends on, and the node itself, each after its parts."""
    found, new = {node}, [node]
    while new:
        new = [part for part in {p for node in new for p in node.parts} if part not in found]
        found.update(new)
    return iter(sorted(found, key=lambda node: node.depth))


def _work(logits: Node) -> int:
    """The number of coefficients, for an image, of linear bounds of all rectified layers."""
    inputs = [node.parts[0] for node in _in_order(logits) if isinstance(node, Rectifier)]
    return sum(_values(node) * sum(map(_values, _in_order(node))) for node in inputs)


def _values(node: Node) -> int:
    """The number of values of a node for an image."""
    return math.prod(node.shape[1:])


def _largest(node: Node) -> int:
    """The number of values, for the batch, of the largest node that a node depends on."""
    return max(part.lower.numel() for part in _in_order(node))


def _tighten(node: Node) -> None:
    """Replace bounds of opposite signs by bounds that go back to the image, if these are tighter.

    Only bounds of opposite signs matter to the linear bounds of a rectifier.
    """
    low, high = (bounds.reshape(len(bounds), -1) for bounds in (node.lower, node.upper))
    unstable = (low < 0) & (high > 0)
    count = int(unstable.sum(1).max())
    images, values = low.shape
    largest = _largest(node)
    if count == 0 or count * largest > MAX_COST:
        return
    places = unstable.double().topk(count, 1).indices
    for part in torch.split(places, max(1, MAX_VALUES // largest), 1):
        one = low.new_zeros(part.shape[1], images, values).scatter_(2, part.T[..., None], 1.0)
        one = one.view(-1, *node.shape)
        for bounds, better, tighter in zip(
            (low, high), value_range(node, one), (torch.maximum, torch.minimum), strict=True
        ):
            bounds.scatter_(1, part, tighter(bounds.gather(1, part), better.T))
    node.lower, node.upper = low.view(node.shape), high.view(node.shape)
