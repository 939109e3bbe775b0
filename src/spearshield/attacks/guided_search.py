"""Guided search: the random search of Square, started from the result of APGD.

Near a local optimum of a piecewise linear network the gradient is not informative. Windows of
random colour often succeed there, with fewer queries than from their usual start. The combination
is a contribution of this project; its parts are the attacks of

Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", 2020. https://arxiv.org/abs/2003.01690
Andriushchenko, Croce, Flammarion, Hein, "Square Attack: a query-efficient black-box adversarial
attack via random search", 2020. https://arxiv.org/abs/1912.00049
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from spearshield.adversary import Attack
from spearshield.attacks.apgd import APGD
from spearshield.attacks.square import Square
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels


@dataclass(frozen=True)
class GuidedSearch(Attack):
    """APGD on the DLR loss, then Square from its result on the images that it did not break.

    With two classes APGD uses the margin loss. APGD gets the randomness of the whole attack, so it
    breaks the images that ``APGD(threat, "dlr", steps=steps)`` breaks with the same seed, and all
    others are broken by Square.

    Args:
        steps: Number of gradient steps of APGD.
        queries: Maximum number of queries of Square for each image.

    Raises:
        ValueError: ``steps`` or ``queries`` is not positive.
    """

    random_search: ClassVar[bool] = True

    steps: int = 100
    queries: int = 2000

    def __post_init__(self) -> None:
        require(self, "steps", "queries", at_least=1)

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        with torch.no_grad():
            classes = model(x[:1]).shape[1]
        apgd = APGD(self.threat, "dlr" if classes > 2 else "margin", steps=self.steps)
        start = apgd.perturb(model, x, y, rng)
        return Square(self.threat, self.queries).search(model, x, y, rng.fold(1), start)
