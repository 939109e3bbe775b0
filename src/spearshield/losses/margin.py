"""What an attacker raises: one number for each image, from its logits.

Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", 2020. https://arxiv.org/abs/2003.01690
"""

from __future__ import annotations

import math

from torch.nn import functional as F  # noqa: N812

from spearshield.types import Labels, Logits, PerImage


def cross_entropy(logits: Logits, y: Labels) -> PerImage:
    """Cross-entropy with the true class. Its gradient vanishes where the model is very sure."""
    return F.cross_entropy(logits, y, reduction="none")


def margin_loss(logits: Logits, y: Labels) -> PerImage:
    """How far the highest of the other logits is above the true one; positive: an error."""
    others = logits.scatter(1, y[:, None], -math.inf).amax(1)
    return others - _at(logits, y)


def dlr(logits: Logits, y: Labels) -> PerImage:
    """Difference of logits ratio: the margin loss over the gap between first and third logit.

    Neither shifting nor scaling the logits changes it (section 4.1).

    Raises:
        ValueError: There are fewer than 3 classes.
    """
    _require(logits, 3, "the DLR loss", "the margin loss is defined for two")
    first, _, third = logits.topk(3).values.unbind(1)
    return margin_loss(logits, y) / (first - third).clamp(min=1e-12)


def targeted_dlr(logits: Logits, y: Labels, target: Labels) -> PerImage:
    """How far the target's logit is above the true one, in a unit of DLR's kind (section 5).

    Raises:
        ValueError: There are fewer than 4 classes.
    """
    _require(logits, 4, "the targeted DLR loss", "the untargeted one is defined for three")
    first, _, third, fourth = logits.topk(4).values.unbind(1)
    gap = first - (third + fourth) / 2
    return (_at(logits, target) - _at(logits, y)) / gap.clamp(min=1e-12)


def _at(logits: Logits, label: Labels) -> PerImage:
    return logits.gather(1, label[:, None]).squeeze(1)


def _require(logits: Logits, classes: int, loss: str, remedy: str) -> None:
    if logits.shape[1] < classes:
        raise ValueError(
            f"{loss} needs at least {classes} classes, the model has {logits.shape[1]}; {remedy}"
        )
