"""Guided search: Square's random search from where the gradient has led.

Near a local optimum of a piecewise linear network no gradient shows the way over the last stretch;
windows of random colour often do, and need fewer queries than from stripes. To put one after the
other is this project's own; the parts are those of

Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", 2020. https://arxiv.org/abs/2003.01690
Andriushchenko, Croce, Flammarion, Hein, "Square Attack: a query-efficient black-box adversarial
attack via random search", 2020. https://arxiv.org/abs/1912.00049
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from spearshield.attack import Attack
from spearshield.attacks.apgd import APGD
from spearshield.attacks.square import Square
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels


@dataclass(frozen=True)
class GuidedSearch(Attack):
    """APGD on the DLR loss; where the model is still right, Square from its best point.

    With two classes APGD climbs the margin loss.

    Args:
        steps: Gradient steps.
        queries: Images shown to the model by the search, at most, for each image.

    Raises:
        ValueError: ``steps`` or ``queries`` is not positive.
    """

    steps: int = 100
    queries: int = 2000

    def __post_init__(self) -> None:
        if self.steps < 1 or self.queries < 1:
            raise ValueError(
                f"steps and queries must be at least 1, got {self.steps} and {self.queries}"
            )

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        with torch.no_grad():
            classes = model(x[:1]).shape[1]
        climb = APGD(self.threat, "dlr" if classes > 2 else "margin", steps=self.steps)
        start = climb.perturb(model, x, y, rng.fold(0))
        return Square(self.threat, self.queries).search(model, x, y, rng.fold(1), start)
