"""Escalation: further trials on the survivors of a battery in which a check found a flaw.

A robust accuracy that cannot be trusted is followed by attacks on the flaws that hide adversarial
images: gradients that are cut or false (automatic BPDA), recognition of pixels off the grid of the
data (on grid), gradients without information (students, and an attack that sees only classes), and
attacks that were too short.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from spearshield.adversary import Attack
from spearshield.attacks.apgd import APGD
from spearshield.attacks.automatic_bpda import AutomaticBPDA
from spearshield.attacks.fab import FAB
from spearshield.attacks.fmn import FMN
from spearshield.attacks.hop_skip_jump import HopSkipJump
from spearshield.attacks.on_grid import OnGrid
from spearshield.attacks.square import Square
from spearshield.dataset import Examples
from spearshield.judging.trial import Trial
from spearshield.method import Defended
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.threat import ThreatModel
from spearshield.training.student import Student
from spearshield.views import EOT, Adaptive


@dataclass(frozen=True)
class Effort:
    """The numbers of an escalation.

    Args:
        steps: Steps of automatic BPDA and of the attack on the grid.
        student: The training of the student.
        fmn_steps, apgd_steps: Steps of FMN and of the long APGD.
        fab_targets, fab_restarts: Targets of FAB, and its runs towards each.
        decisions: Queries of HopSkipJump for each image.
        scores: Queries of Square for each image.
        draws: Draws of a random purifier that are averaged.
    """

    steps: int
    student: Student
    fmn_steps: int
    apgd_steps: int
    fab_targets: int
    fab_restarts: int
    decisions: int
    scores: int
    draws: int

    def __post_init__(self) -> None:
        require(self, "steps", "fmn_steps", "apgd_steps", "fab_targets", at_least=1)
        require(self, "fab_restarts", "decisions", "scores", "draws", at_least=1)


EFFORTS = {
    "standard": Effort(100, Student(), 500, 1000, 9, 3, 5000, 20_000, 20),
    "quick": Effort(50, Student(50, 10, 8), 100, 200, 3, 1, 1000, 3000, 10),
}
"""The numbers for each battery."""

LARGE = 64 * 64
"""Number of pixels above which the student is trained with the numbers of ``quick``."""


def escalation(
    threat: ThreatModel,
    victim: Defended,
    examples: Examples,
    classes: int,
    effort: str,
    seed: int,
) -> tuple[Trial, ...]:
    """The trials that are added when a check of high severity found a flaw, from cheap to dear.

    The attacks that differentiate do so through the stand-ins of automatic BPDA, so they run on any
    victim. Calling this function trains the student: a few thousand queries for the class.

    Args:
        victim: The victim, in evaluation mode.
        examples: The images to train the student on; the survivors of the battery are best.
        classes: Number of classes.
        effort: A name in ``EFFORTS``: ``standard``, or ``quick`` with smaller numbers.
        seed: Seed of the student.
    """
    numbers = EFFORTS[effort]
    random = victim.purifiers.are_random
    view = EOT(numbers.draws) if random else Adaptive()

    def through_stand_ins(attack: Attack) -> Trial:
        found = AutomaticBPDA(threat, attack, early_stop=not random)
        return Trial(found, view, survivors=True)

    long = APGD(threat, "dlr" if classes > 2 else "margin", steps=numbers.apgd_steps)
    fab = FAB(threat, targets=numbers.fab_targets, restarts=numbers.fab_restarts)
    bpda = AutomaticBPDA(threat, steps=numbers.steps, early_stop=not random)
    return (
        Trial(bpda, view, survivors=True),
        Trial(OnGrid(threat, steps=numbers.steps), view, survivors=True),
        Trial(_transfer(threat, victim, examples, classes, numbers, seed), survivors=True),
        through_stand_ins(FMN(threat, steps=numbers.fmn_steps)),
        through_stand_ins(long),
        through_stand_ins(fab),
        Trial(HopSkipJump(threat, queries=numbers.decisions), survivors=True),
        Trial(Square(threat, queries=numbers.scores), survivors=True),
    )


def _transfer(
    threat: ThreatModel,
    victim: Defended,
    examples: Examples,
    classes: int,
    numbers: Effort,
    seed: int,
) -> Attack:
    """A transfer attack from a student that is trained now."""
    large = math.prod(examples.shape[1:]) > LARGE
    student = EFFORTS["quick"].student if large else numbers.student
    device = next((p.device for p in victim.parameters()), examples.pixels.device)
    part = examples[: student.images]
    rng = Rng(seed, part.ids.to(device))
    x, y = part.images(device), part.y.to(device)
    return student.transfer(victim, x, y, classes, threat, rng)
