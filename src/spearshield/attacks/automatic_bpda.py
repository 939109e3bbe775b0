"""Automatic BPDA: an attack through differentiable stand-ins that it makes from the model itself.

Athalye, Carlini, Wagner, "Obfuscated Gradients Give a False Sense of Security", 2018.
https://arxiv.org/abs/1802.00420 (Backward Pass Differentiable Approximation, with approximations
that are chosen by hand; finding and replacing them automatically is a contribution of this project)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

from spearshield.adversary import Attack, unbroken
from spearshield.attacks.apgd import APGD, BestAttempts
from spearshield.attacks.pgd import PGD
from spearshield.discover import name_of
from spearshield.nets.stand_in import StandIn, stand_ins
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
        attack: The attack on each stand-in; ``None``: in turn APGD and PGD on the margin loss, and
            APGD on the targeted DLR loss. PGD, with steps of ``eps / 10``, also works where the
            loss is constant.
        steps: Number of gradient steps in each run of the default attacks.
        targets: Number of target classes of the last default attack; it needs four classes.
        early_stop: Attack no image again that has been broken, and stop the default attacks at the
            first misclassified iterate. With False, the model is only called with the whole batch,
            if ``attack`` does so as well.

    Raises:
        ValueError: ``steps`` or ``targets`` is not positive, or ``attack`` has another threat
            model.
    """

    attack: Attack | None = None
    steps: int = 100
    targets: int = 9
    early_stop: bool = True

    def __post_init__(self) -> None:
        require(self, "steps", "targets", at_least=1)
        if self.attack and self.attack.threat != self.threat:
            raise ValueError(f"the attack is on {self.attack.threat}, not {self.threat}")

    @property
    def display_name(self) -> str:
        """The name, with the name of the attack on each stand-in if it is not the default."""
        return f"automatic_bpda({name_of(self.attack)})" if self.attack else "automatic_bpda"

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        best = BestAttempts(model, x, y)
        attacks = self._attacks(best.clean_logits.shape[1])
        runs = enumerate(product(stand_ins(model, x, rng), attacks))
        for (number, (stand_in, attack)), left in unbroken(
            runs, x, best.is_broken if self.early_stop else None
        ):
            best.add(left, _attacked(attack, stand_in, x[left], y[left], rng[left].fold(number)))
        return best.x_adv

    def _attacks(self, classes: int) -> tuple[Attack, ...]:
        """The attacks on each stand-in, in turn."""
        if self.attack:
            return (self.attack,)
        apgd = APGD(self.threat, "margin", steps=self.steps, early_stop=self.early_stop)
        pgd = PGD(self.threat, self.steps, early_stop=self.early_stop, loss="margin")
        targeted = replace(apgd, targets=self.targets, last_runs=2)
        return (apgd, pgd, targeted) if classes > 3 else (apgd, pgd)


def _attacked(attack: Attack, stand_in: StandIn, x: Images, y: Labels, rng: Rng) -> Images:
    """The result of an attack; if the model's own backward pass fails, of one around its hooks."""
    try:
        return attack.perturb(stand_in, x, y, rng)
    except Exception:
        if stand_in.operators:
            raise
        return attack.perturb(replace(stand_in, operators=True), x, y, rng)
