"""Automatic BPDA: an attack through differentiable stand-ins that it makes from the model itself.

Athalye, Carlini, Wagner, "Obfuscated Gradients Give a False Sense of Security", 2018.
https://arxiv.org/abs/1802.00420 (Backward Pass Differentiable Approximation, with approximations
that are chosen by hand; finding and replacing them automatically is a contribution of this project)
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from spearshield.adversary import Attack, unbroken
from spearshield.attacks.apgd import APGD, BestAttempts
from spearshield.attacks.pgd import PGD
from spearshield.discover import name_of
from spearshield.nets.stand_in import stand_ins
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels


@dataclass(frozen=True)
class AutomaticBPDA(Attack):
    """Attacks a model whose gradient is cut, zero or false through differentiable stand-ins.

    A stand-in has exactly the values of the model; see :mod:`spearshield.nets.stand_in`. A model
    without such faults is attacked itself. For each image, the result is the attempt with the
    largest margin loss of the model.

    Args:
        attack: The attack on each stand-in; ``None``: APGD, then PGD with steps of ``eps / 10``,
            which also works where the loss is constant; both on the margin loss.
        steps: Number of gradient steps in each run of the default attacks.
        early_stop: Attack no image again that has been broken, and stop the default attacks at the
            first misclassified iterate. With False, the model is only called with the whole batch,
            if ``attack`` does so as well.

    Raises:
        ValueError: ``steps`` is not positive, or ``attack`` has another threat model.
    """

    attack: Attack | None = None
    steps: int = 100
    early_stop: bool = True

    def __post_init__(self) -> None:
        require(self, "steps", at_least=1)
        if self.attack and self.attack.threat != self.threat:
            raise ValueError(f"the attack is on {self.attack.threat}, not {self.threat}")

    @property
    def display_name(self) -> str:
        """The name, with the name of the attack on each stand-in if it is not the default."""
        return f"automatic_bpda({name_of(self.attack)})" if self.attack else "automatic_bpda"

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        best = BestAttempts(model, x, y)
        runs = enumerate(product(stand_ins(model, x, rng), self._attacks))
        for (number, (stand_in, attack)), left in unbroken(
            runs, x, best.is_broken if self.early_stop else None
        ):
            found = attack.perturb(stand_in, x[left], y[left], rng[left].fold(number))
            best.add(left, found)
        return best.x_adv

    @property
    def _attacks(self) -> tuple[Attack, ...]:
        if self.attack:
            return (self.attack,)
        early_stop = self.early_stop
        return (
            APGD(self.threat, "margin", steps=self.steps, early_stop=early_stop),
            PGD(self.threat, steps=self.steps, early_stop=early_stop, loss="margin"),
        )
