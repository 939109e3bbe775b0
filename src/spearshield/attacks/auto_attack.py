"""AutoAttack: four attacks that need no tuning, and what withstands them all is robust.

Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", 2020. https://arxiv.org/abs/2003.01690
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch

from spearshield.attack import Attack
from spearshield.attacks.apgd import APGD
from spearshield.attacks.fab import FAB
from spearshield.attacks.square import Square
from spearshield.losses.margin import margin_loss
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels


@dataclass(frozen=True)
class AutoAttack(Attack):
    """Several attacks in a row, each on the images that withstood those before it.

    A broken image comes back as the first attack broke it; one that stands as the attempt that
    came nearest, by the margin loss; one that the model gets wrong as it is unchanged.

    Args:
        version: ``standard``: APGD on the cross-entropy and on targeted DLR, targeted FAB, Square.
            ``rand``, for a random model, seen through a view that averages its answers such as
            ``EOT(20)``: APGD on the cross-entropy and on DLR. There no image leaves on a lucky
            draw: all take all steps of both, and the attempt nearer to success comes back.
        steps: Gradient steps in each run of APGD and FAB.
        targets: Other classes that APGD and FAB head for, in ``standard``.
        queries: Images shown to the model by Square, in ``standard``.

    Raises:
        ValueError: ``steps``, ``targets`` or ``queries`` is not positive, or there is no such
            ``version``.
    """

    version: Literal["standard", "rand"] = "standard"
    steps: int = 100
    targets: int = 9
    queries: int = 5000

    def __post_init__(self) -> None:
        if self.version not in ("standard", "rand"):
            raise ValueError(f"version must be standard or rand, got {self.version!r}")
        if min(self.steps, self.targets, self.queries) < 1:
            raise ValueError(
                "steps, targets and queries must be at least 1, "
                f"got {self.steps}, {self.targets} and {self.queries}"
            )

    def parts(self, classes: int) -> tuple[Attack, ...]:
        """The attacks, in order, against a model with so many classes.

        Targeted DLR is defined for four classes and more, DLR for three: with fewer the next
        simpler loss stands in, in the end the margin loss.
        """
        ce = APGD(self.threat, steps=self.steps)
        ratio = replace(ce, loss="dlr" if classes > 2 else "margin")
        if self.version == "rand":
            return replace(ce, early_stop=False), replace(ratio, early_stop=False)
        return (
            ce,
            replace(ce, targets=self.targets) if classes > 3 else ratio,
            FAB(self.threat, targets=self.targets, steps=self.steps),
            Square(self.threat, queries=self.queries),
        )

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        with torch.no_grad():
            logits = model(x)
        best, nearest = x.clone(), torch.full_like(logits[:, 0], -math.inf)
        left = torch.arange(len(x), device=x.device)
        for number, part in enumerate(self.parts(logits.shape[1])):
            if self.version == "standard":
                left = left[logits.argmax(1) == y[left]]
            if len(left) == 0:
                break
            x_adv = part(model, x[left], y[left], rng=rng[left].fold(number))
            with torch.no_grad():
                logits = model(x_adv)
            reached = margin_loss(logits, y[left])
            better = reached >= nearest[left]
            best[left[better]], nearest[left[better]] = x_adv[better], reached[better]
        return best
