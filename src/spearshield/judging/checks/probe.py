"""A victim under examination, and the attacks that several checks share."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from spearshield.attack import Attack
from spearshield.attacks.pgd import PGD
from spearshield.dataset import Examples
from spearshield.judging.checks.attacks import STEPS, MarginPGD
from spearshield.judging.checks.finite_guard import FiniteGuard, NonFiniteCounts, differentiable
from spearshield.method import Defended, RandomPurifier
from spearshield.rng import Rng, ambient
from spearshield.threat import ThreatModel
from spearshield.types import Images, Labels, Logits, Mask
from spearshield.views import EOT

LEVEL = 1 / 255
"""Distance of neighbouring 8-bit pixels."""
DRAWS = 4
FRESH = 20
"""Answers of a random purifier that the attacker averages, and others that then decide."""
PASSES = 5
"""Clean passes compared with each other: Croce, Hein, 2020 (AutoAttack), ``checks.py``."""


@dataclass(frozen=True, eq=False)
class Probe:
    """A victim, and images of ``threat`` to try it on.

    A random purifier that says so is attacked by the mean of its answers, and the mean of other
    answers decides: one lucky draw breaks no image.
    """

    victim: Defended
    x: Images
    y: Labels
    threat: ThreatModel
    rng: Rng
    tally: NonFiniteCounts = field(default_factory=NonFiniteCounts)

    @staticmethod
    def of(
        victim: Defended,
        examples: Examples,
        threat: ThreatModel,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> Probe:
        """A probe of a copy, because some victims change when they are asked."""
        copied = copy.deepcopy(victim).to(device)
        x, y, ids = examples.images(device), examples.y.to(device), examples.ids.to(device)
        return Probe(copied, x, y, threat, Rng(seed, ids))

    @property
    def declares_chance(self) -> bool:
        return isinstance(self.victim.purifier, RandomPurifier)

    @property
    def ask(self) -> FiniteGuard:
        """The victim as it is deployed."""
        return FiniteGuard(self.victim, self.tally)

    @property
    def model(self) -> FiniteGuard:
        """What the attacker differentiates."""
        return FiniteGuard(EOT(DRAWS)(self.victim), self.tally, self.cut)

    @property
    def bare(self) -> FiniteGuard:
        """What an attacker differentiates who does not know of the purifier."""
        cut = not differentiable(self.victim.classifier, self.x)
        return FiniteGuard(self.victim.classifier, self.tally, cut)

    @property
    def still(self) -> FiniteGuard:
        """The victim with chance held still, so that it is a function of its input."""
        return FiniteGuard(self._still, self.tally, self.cut)

    @cached_property
    def cut(self) -> bool:
        """Whether no gradient of the answer arrives at the image."""
        return not differentiable(self.victim, self.x)

    def _still(self, x: Images) -> Logits:
        purifier = self.victim.purifier
        with ambient(0):
            if isinstance(purifier, RandomPurifier):
                x_hat = purifier.purify(x, Rng.of_batch(0, len(x), x.device))
            else:
                x_hat = purifier(x)
            logits: Logits = self.victim.classifier(x_hat)
            return logits

    @torch.no_grad()
    def right(self, x: Images, y: Labels) -> Mask:
        """Which images the victim gets right."""
        purifier = self.victim.purifier
        if not isinstance(purifier, RandomPurifier):
            return self.ask(x).argmax(1) == y
        fresh = range(DRAWS + 1, DRAWS + FRESH + 1)
        answer = FiniteGuard(
            lambda x: sum(self.victim.classifier(purifier(x, draw=k)) for k in fresh), self.tally
        )
        return answer(x).argmax(1) == y

    def after(self, attack: Attack, among: Mask) -> Images:
        """The images, those ``among`` them attacked."""
        x_adv, index = self.x.clone(), among.nonzero().squeeze(1)
        if len(index):
            x, y, rng = self.x[index], self.y[index], self.rng[index]
            x_adv[index] = attack(self.model, x, y, rng=rng)
        return x_adv

    def pgd(
        self, threat: ThreatModel | None = None, *, steps: int = STEPS, restarts: int = 1
    ) -> PGD:
        """PGD on the cross-entropy. No random victim is left at its first error, by one draw."""
        early = not self.declares_chance
        return PGD(threat or self.threat, steps, restarts=restarts, early_stop=early)

    def standing(self, attack: Attack, among: Mask) -> Mask:
        """Which images ``among`` the victim still gets right after ``attack``."""
        return among & self.right(self.after(attack, among), self.y)

    @cached_property
    def spread(self) -> float:
        """Largest distance between answers to the same images, each scaled to norm 1."""
        with torch.no_grad():
            passes = torch.stack([self.ask(self.x) for _ in range(PASSES)])
        unit = torch.nn.functional.normalize(passes, dim=2)
        return max(float((unit - one).norm(dim=2).max()) for one in unit)

    @cached_property
    def clean(self) -> Mask:
        """Images that the victim gets right."""
        return self.right(self.x, self.y)

    @cached_property
    def start(self) -> Images:
        """A random point of each ball, where attacks begin."""
        return self.threat.project(
            self.x + self.threat.sample_perturbation(self.x, self.rng), self.x
        )

    @cached_property
    def attacked(self) -> Images:
        """The images after PGD on the cross-entropy, the attack under examination."""
        return self.after(self.pgd(), self.clean)

    @cached_property
    def transferred(self) -> Images:
        """The images after PGD on the bare classifier."""
        attack = PGD(self.threat, STEPS, early_stop=False)
        return attack(self.bare, self.x, self.y, rng=self.rng)

    @cached_property
    def white(self) -> Mask:
        """Images that PGD on the cross-entropy leaves standing."""
        return self.clean & self.right(self.attacked, self.y)

    @cached_property
    def by_margin(self) -> Mask:
        """Images that PGD on the margin leaves standing."""
        return self.standing(
            MarginPGD(self.threat, early_stop=not self.declares_chance), self.clean
        )

    @cached_property
    def longer(self) -> Mask:
        """Images that stand after PGD, and after PGD of twice the steps."""
        return self.standing(self.pgd(steps=2 * STEPS), self.white)

    @cached_property
    def restarted(self) -> Mask:
        """Images that stand after PGD, and after PGD from two more starts."""
        again = replace(self, rng=self.rng.fold(1))
        return again.standing(self.pgd(restarts=2), self.white)

    @cached_property
    def survivors(self) -> Mask:
        """Images that no white-box attack has broken."""
        return self.by_margin & self.longer & self.restarted


def share(mask: Tensor) -> float:
    """The share of true values; 0 where there are none."""
    return float(mask.double().mean()) if len(mask) else 0.0
