"""BIM: the basic iterative method, FGSM in small steps.

Kurakin, Goodfellow, Bengio, "Adversarial Examples in the Physical World", 2017.
https://arxiv.org/abs/1607.02533
"""

from __future__ import annotations

from dataclasses import dataclass

from spearshield.adversary import Attack
from spearshield.attacks.pgd import PGD
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels


@dataclass(frozen=True)
class BIM(Attack):
    """PGD from the clean image that takes every step and returns the last iterate (section 2.2).

    Args:
        steps: Number of gradient steps. The paper takes ``min(255 * eps + 4, 1.25 * 255 * eps)``.
        step_size: Length of a step in the norm of ``threat``, on the [0, 1] scale; ``None``:
            ``eps / steps``. The paper takes 1/255.

    Raises:
        ValueError: ``steps`` or ``step_size`` is not positive.
    """

    steps: int = 10
    step_size: float | None = None

    def __post_init__(self) -> None:
        require(self, "steps", at_least=1)
        require(self, "step_size", above=0)

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        step_size = self.threat.eps / self.steps if self.step_size is None else self.step_size
        pgd = PGD(self.threat, self.steps, step_size, random_start=False, early_stop=False)
        return pgd.perturb(model, x, y, rng)
