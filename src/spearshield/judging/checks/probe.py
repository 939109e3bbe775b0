"""A victim under examination, with the results that several checks share."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import normalize

from spearshield.adversary import Attack
from spearshield.attacks.pgd import PGD
from spearshield.dataset import Examples
from spearshield.judging.checks.attacks import STEPS
from spearshield.judging.checks.finite_guard import FiniteGuard, NonFiniteCounts, differentiable
from spearshield.method import Defended, RandomPurifier
from spearshield.rng import Rng, ambient
from spearshield.threat import ThreatModel
from spearshield.types import Images, Labels, Logits, Mask
from spearshield.views import EOT

LEVEL = 1 / 255
"""Distance between neighbouring 8-bit levels."""
DRAWS = 4
"""Number of draws of a random purifier that the attacker averages."""
FRESH_DRAWS = 20
"""Number of other draws; their mean decides whether an image is broken."""
MORE = 10
"""Factor of the steps of a longer attack: Carlini et al., 2019, continue until nothing changes."""
PASSES = 5
"""Number of compared forward passes: Croce, Hein, 2020 (AutoAttack), ``checks.py``."""


@dataclass(frozen=True, eq=False)
class Probe:
    """A victim, and the images and the threat model of its examination.

    If a purifier declares its randomness, the mean of the logits over some draws is attacked. The
    mean over other draws decides whether an image is broken, so a single draw cannot break it.

    Args:
        weight: The share of all attacked images that the images of the probe represent: less than 1
            if they are the survivors of a battery.
    """

    victim: Defended
    x: Images
    y: Labels
    threat: ThreatModel
    rng: Rng
    weight: float = 1.0
    non_finite: NonFiniteCounts = field(default_factory=NonFiniteCounts)

    @staticmethod
    def of(
        victim: Defended,
        examples: Examples,
        threat: ThreatModel,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        weight: float = 1.0,
    ) -> Probe:
        """A probe of a copy of ``victim``, because some victims change in a forward pass."""
        copied = copy.deepcopy(victim).to(device)
        x, y, ids = examples.images(device), examples.y.to(device), examples.ids.to(device)
        return Probe(copied, x, y, threat, Rng(seed, ids), weight)

    def share(self, mask: Mask) -> float:
        """The share of all attacked images that ``mask`` represents."""
        return self.weight * share(mask)

    @property
    def declares_randomness(self) -> bool:
        """True if a purifier is a :class:`~spearshield.method.RandomPurifier`."""
        return self.victim.purifiers.are_random

    @property
    def deployed(self) -> FiniteGuard:
        """The victim as it is deployed."""
        return FiniteGuard(self.victim, self.non_finite)

    @property
    def model(self) -> FiniteGuard:
        """The classifier that an adaptive attacker differentiates."""
        return FiniteGuard(EOT(DRAWS)(self.victim), self.non_finite, self.detached)

    @property
    def bare(self) -> FiniteGuard:
        """The classifier that an oblivious attacker differentiates."""
        detached = not differentiable(self.victim.classifier, self.x)
        return FiniteGuard(self.victim.classifier, self.non_finite, detached)

    @property
    def deterministic(self) -> FiniteGuard:
        """The victim with its randomness fixed, so that it is a function of its input."""
        return FiniteGuard(self._deterministic, self.non_finite, self.detached)

    @cached_property
    def detached(self) -> bool:
        """True if no gradient of the logits reaches the image."""
        return not differentiable(self.victim, self.x)

    def _deterministic(self, x: Images) -> Logits:
        rng = Rng.of_batch(0, len(x), x.device)
        with ambient(0):
            for purifier in self.victim.purifiers:
                x = purifier.purify(x, rng) if isinstance(purifier, RandomPurifier) else purifier(x)
            logits: Logits = self.victim.innermost(x)
            return logits

    @torch.no_grad()
    def correct(self, x: Images, y: Labels) -> Mask:
        """True for each image that the victim classifies correctly."""
        if not self.declares_randomness:
            return self.deployed(x).argmax(1) == y
        fresh = range(DRAWS + 1, DRAWS + FRESH_DRAWS + 1)
        total = FiniteGuard(
            lambda x: sum(self.victim(x, draw=k) for k in fresh),
            self.non_finite,
        )
        return total(x).argmax(1) == y

    def attacked_by(self, attacks: Sequence[Attack], among: Mask) -> Images:
        """All images, after ``attacks`` on the images in ``among``, in turn until one succeeds."""
        x_adv, left = self.x.clone(), among.clone()
        for attack in attacks:
            index = left.nonzero().squeeze(1)
            if len(index) == 0:
                break
            x, y, rng = self.x[index], self.y[index], self.rng[index]
            x_adv[index] = attack(self.model, x, y, rng=rng)
            left[index] = self.correct(x_adv[index], y)
        return x_adv

    def robust_to(self, attacks: Sequence[Attack], among: Mask) -> Mask:
        """True for each image in ``among`` that is classified correctly after all ``attacks``."""
        return among & self.correct(self.attacked_by(attacks, among), self.y)

    def pgd(
        self, threat: ThreatModel | None = None, *, steps: int = STEPS, restarts: int = 1
    ) -> tuple[PGD, PGD]:
        """PGD on the cross-entropy and on the margin; for a random victim without early stopping.

        The margin has a gradient even where the victim is very confident. If no gradient reaches
        the image, every step returns the same image, and one step is taken.
        """
        early, steps = not self.declares_randomness, 1 if self.detached else steps
        attack = PGD(threat or self.threat, steps, restarts=restarts, early_stop=early)
        return attack, replace(attack, loss="margin")

    @cached_property
    def spread(self) -> float:
        """Largest distance between the logits of repeated passes, each scaled to norm 1."""
        return _spread([self.deployed(self.x) for _ in range(PASSES)])

    @cached_property
    def seeded_spread(self) -> float:
        """The same, with the same global random numbers in each pass."""
        return _spread([self.deterministic(self.x) for _ in range(PASSES)])

    @cached_property
    def clean(self) -> Mask:
        """True for each image that is classified correctly without an attack."""
        return self.correct(self.x, self.y)

    @cached_property
    def start(self) -> Images:
        """The random start of each image, where attacks begin."""
        return self.threat.random_start(self.x, self.rng)

    @cached_property
    def attacked(self) -> Images:
        """The images after PGD, the attack under examination."""
        return self.attacked_by(self.pgd(), self.clean)

    @cached_property
    def transferred(self) -> Images:
        """The images after PGD on the bare classifier."""
        attack = PGD(self.threat, STEPS, early_stop=False)
        return attack(self.bare, self.x, self.y, rng=self.rng)

    @cached_property
    def robust(self) -> Mask:
        """True for each image that survives PGD."""
        return self.clean & self.correct(self.attacked, self.y)

    @cached_property
    def robust_to_more_steps(self) -> Mask:
        """True for each image that survives PGD, and PGD of ten times the steps."""
        return self.robust_to(self.pgd(steps=MORE * STEPS), self.robust)

    @cached_property
    def robust_to_more_restarts(self) -> Mask:
        """True for each image that survives PGD, and PGD from two more random starts."""
        again = replace(self, rng=self.rng.fold(1))
        return again.robust_to(self.pgd(restarts=2), self.robust)

    @cached_property
    def survivors(self) -> Mask:
        """True for each image that survives all white-box attacks."""
        return self.robust_to_more_steps & self.robust_to_more_restarts


def _spread(passes: Sequence[Logits]) -> float:
    """Largest distance between the logits of several passes, each scaled to norm 1."""
    unit = normalize(torch.stack([logits.detach() for logits in passes]), dim=2)
    return max(float((unit - one).norm(dim=2).max()) for one in unit)


def share(mask: Tensor) -> float:
    """The share of true values; 0 if there are none."""
    return float(mask.double().mean()) if len(mask) else 0.0
