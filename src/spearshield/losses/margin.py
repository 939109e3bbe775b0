"""Losses that an attack increases: one value for each image, from its logits.

Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", 2020. https://arxiv.org/abs/2003.01690
"""

from __future__ import annotations

import math

from torch.nn import functional as F  # noqa: N812

from spearshield.types import Labels, Logits, Loss, PerImage


def cross_entropy(logits: Logits, y: Labels) -> PerImage:
    """Cross-entropy with class ``y``. Its gradient vanishes where the model is very confident."""
    return F.cross_entropy(logits, y, reduction="none")


def margin_loss(logits: Logits, y: Labels) -> PerImage:
    """Highest logit of the other classes minus the logit of class ``y``.

    Positive if and only if the image is misclassified.
    """
    return other_logits(logits, y).amax(1) - _at(logits, y)


def dlr(logits: Logits, y: Labels) -> PerImage:
    """Difference of logits ratio: the margin loss over the highest minus the third highest logit.

    Invariant to shifting and scaling the logits (section 4.1).

    Raises:
        ValueError: There are fewer than 3 classes.
    """
    _require_classes(logits, 3, "the DLR loss", "the margin loss is defined for two")
    first, _, third = logits.topk(3).values.unbind(1)
    return margin_loss(logits, y) / (first - third).clamp(min=1e-12)


def targeted_dlr(logits: Logits, y: Labels, target: Labels) -> PerImage:
    """Logit of ``target`` minus the logit of ``y``, on the scale of the DLR loss (section 5).

    Raises:
        ValueError: There are fewer than 4 classes.
    """
    _require_classes(logits, 4, "the targeted DLR loss", "the untargeted one is defined for three")
    first, _, third, fourth = logits.topk(4).values.unbind(1)
    gap = first - (third + fourth) / 2
    return (_at(logits, target) - _at(logits, y)) / gap.clamp(min=1e-12)


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "margin": margin_loss, "dlr": dlr}
"""The losses that PGD and APGD accept by name."""


def other_logits(logits: Logits, y: Labels) -> Logits:
    """``logits`` with the logit of class ``y`` set to minus infinity."""
    return logits.scatter(1, y[:, None], -math.inf)


def _at(logits: Logits, label: Labels) -> PerImage:
    """The logit of the class ``label`` of each image."""
    return logits.gather(1, label[:, None]).squeeze(1)


def _require_classes(logits: Logits, classes: int, loss: str, remedy: str) -> None:
    if logits.shape[1] < classes:
        raise ValueError(
            f"{loss} needs at least {classes} classes, the model has {logits.shape[1]}; {remedy}"
        )
