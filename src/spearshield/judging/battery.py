"""Batteries: the trials for a measurement of robust accuracy.

The first trial, an adaptive attack, and the last trial, an oblivious attack that is comparable with
published results, attack every image. The other trials attack only the surviving images: the images
that no earlier trial broke. Their score is the worst case so far, and their cost depends on the
number of surviving images. Attacks with less knowledge come after attacks with more knowledge, so
that an image that only they break is a finding. A guided search, which combines gradients and
random search, is the last attack on surviving images. A trial takes part if its view applies to the
victim: see :mod:`spearshield.views`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from spearshield.adversary import Attack
from spearshield.attacks.apgd import APGD
from spearshield.attacks.auto_attack import AutoAttack
from spearshield.attacks.fab import FAB
from spearshield.attacks.fmn import FMN
from spearshield.attacks.guided_search import GuidedSearch
from spearshield.attacks.latent_search import LatentSearch
from spearshield.attacks.orthogonal_pgd import OrthogonalPGD
from spearshield.attacks.pgd import PGD
from spearshield.attacks.square import Square
from spearshield.judging.trial import Trial
from spearshield.method import Outcome
from spearshield.threat import ThreatModel
from spearshield.training.transfer_attack import Transfer
from spearshield.views import BPDA, EOT, Adaptive, DetectorAware, InRange, Oblivious, Transferred

IMAGES = {"standard": 1000, "quick": 200}
"""Number of images that each battery attacks by default."""


def standard(
    threat: ThreatModel, classes: int, sources: Sequence[Outcome] = ()
) -> tuple[Trial, ...]:
    """The parts of AutoAttack, with most effort for the most effective, and attacks on purifiers.

    The attacks:

    - APGD of 100 steps on the cross-entropy, also through BPDA with the identity and with the
      purifier's differentiable approximation;
    - APGD on the cross-entropy and on the DLR, averaged over 20 draws of a random purifier; on the
      cross-entropy also through BPDA in each draw;
    - APGD of 100 steps on the DLR towards any class, the gradient half of guided search;
    - FMN of 100 steps, from the clean image and from 9 far starts, in Linf from 2;
    - FAB of 100 steps towards 3 other classes;
    - APGD of 100 steps on the DLR towards each of up to 9 other classes, then two runs of 200 steps
      towards the nearest; also through BPDA and on the bare classifier;
    - orthogonal PGD of 100 steps from 6 starts, against a detector;
    - latent search of 500 steps from 4 starts, against a purifier with a generator;
    - transfer from ``sources``;
    - Square with 1,000 queries;
    - guided search: APGD on the DLR, then 2,000 queries of Square from its result;
    - PGD of 40 steps on the bare classifier.

    The effort of each attack was chosen on validation images: see ``docs/results/judge``.

    Args:
        classes: Number of classes.
        sources: Outcomes of other trainings; attacks on them are transferred to the victim.
    """
    ce, targeted, *_ = AutoAttack(threat).parts(classes)
    if isinstance(targeted, APGD) and targeted.targets:
        targeted = replace(targeted, last_runs=2)
    averaged = AutoAttack(threat, version="rand").parts(classes)
    return (
        Trial(ce, Adaptive()),
        Trial(ce, BPDA(), survivors=True),
        Trial(ce, BPDA("approximation"), survivors=True),
        *(Trial(attack, EOT(20), survivors=True) for attack in averaged),
        *_averaged_bpda(averaged[0], 20),
        Trial(_gradient_half(threat, classes), Adaptive(), survivors=True),
        Trial(_fmn(threat), Adaptive(), survivors=True),
        Trial(FAB(threat, targets=3), Adaptive(), survivors=True),
        Trial(targeted, Adaptive(), survivors=True),
        Trial(targeted, BPDA(), survivors=True),
        Trial(OrthogonalPGD(threat), DetectorAware(), survivors=True),
        Trial(LatentSearch(threat), InRange(), survivors=True),
        Trial(targeted, Oblivious(), survivors=True),
        *_transfer(threat, sources),
        Trial(Square(threat, queries=1000), Adaptive(), survivors=True),
        Trial(GuidedSearch(threat), Adaptive(), survivors=True),
        _oblivious_pgd(threat),
    )


def quick(threat: ThreatModel, classes: int, sources: Sequence[Outcome] = ()) -> tuple[Trial, ...]:
    """A battery for daily use, with the most effective attacks of ``standard``.

    APGD of 50 steps on the cross-entropy and of 100 on the DLR, FMN and guided search as in
    ``standard``, FAB towards one class, Square with 500 queries. ``docs/results/judge`` compares
    the two.

    Args:
        classes: Number of classes.
        sources: Outcomes of other trainings; attacks on them are transferred to the victim.
    """
    ce = APGD(threat, steps=50)
    averaged = replace(ce, early_stop=False)
    return (
        Trial(ce, Adaptive()),
        Trial(ce, BPDA(), survivors=True),
        Trial(ce, BPDA("approximation"), survivors=True),
        Trial(averaged, EOT(10), survivors=True),
        *_averaged_bpda(averaged, 10),
        Trial(_gradient_half(threat, classes), Adaptive(), survivors=True),
        Trial(_fmn(threat), Adaptive(), survivors=True),
        Trial(FAB(threat, targets=1), Adaptive(), survivors=True),
        Trial(OrthogonalPGD(threat, restarts=2), DetectorAware(), survivors=True),
        *_transfer(threat, sources),
        Trial(Square(threat, queries=500), Adaptive(), survivors=True),
        Trial(GuidedSearch(threat), Adaptive(), survivors=True),
        _oblivious_pgd(threat),
    )


def _averaged_bpda(attack: Attack, draws: int) -> list[Trial]:
    """Attacks on a random purifier without a useful gradient."""
    views = (BPDA(), BPDA("approximation"))
    return [Trial(attack, EOT(draws, view), survivors=True) for view in views]


def _gradient_half(threat: ThreatModel, classes: int) -> APGD:
    """The first part of guided search as an attack of its own.

    As an earlier trial it takes the images that need no random search.
    """
    return APGD(threat, "dlr" if classes > 2 else "margin")


def _fmn(threat: ThreatModel) -> FMN:
    """FMN from 10 starts, in Linf from 3.

    In Linf, gradients lead from the clean image to most adversarial images. In L2 they often do
    not, and each further start breaks more images.
    """
    return FMN(threat, restarts=3 if threat.p == math.inf else 10)


def _oblivious_pgd(threat: ThreatModel) -> Trial:
    """The attack of most published tables: PGD of 40 steps on the bare classifier.

    It takes all its steps, because a perturbation with a small margin is easily removed.
    """
    return Trial(PGD(threat, steps=40, early_stop=False), Oblivious())


def _transfer(threat: ThreatModel, sources: Sequence[Outcome]) -> list[Trial]:
    """A transfer attack from ``sources``, if there are any."""
    if not sources:
        return []
    victims = tuple(source.defended for source in sources)
    attack = Transfer(threat, victims, queries=sum(source.queries for source in sources))
    return [Trial(attack, Transferred(), survivors=True)]


BATTERIES = {"standard": standard, "quick": quick}
