"""The batteries: which attacks, through which views, make a robust accuracy worth printing.

Two trials are made on every image: the first, an adaptive attacker's, and the last, the oblivious
one's, for the figure of the paper style. Those between take the images that are still standing, so
their number is that of all so far, and the cost is set by the images that survive. Attackers who
know less come after those who know more: what they break then says something. What is left in the
end meets a search that both gradient and chance guide. A trial is made where its view suits the
victim: see :mod:`spearshield.views`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from spearshield.attacks.apgd import APGD
from spearshield.attacks.auto_attack import AutoAttack
from spearshield.attacks.fab import FAB
from spearshield.attacks.guided_search import GuidedSearch
from spearshield.attacks.latent_search import LatentSearch
from spearshield.attacks.orthogonal_pgd import OrthogonalPGD
from spearshield.attacks.pgd import PGD
from spearshield.attacks.square import Square
from spearshield.judging.trial import Trial
from spearshield.method import Outcome
from spearshield.threat import ThreatModel
from spearshield.training.transfer_attack import Transfer
from spearshield.views import BPDA, EOT, Adaptive, DetectorAware, InRange, Oblivious

IMAGES = {"standard": 1000, "quick": 200}
"""Images that a battery is made on where the caller does not say."""


def standard(
    threat: ThreatModel, classes: int, sources: Sequence[Outcome] = ()
) -> tuple[Trial, ...]:
    """AutoAttack's parts on the whole victim, spent where they break most, and what purifiers need.

    APGD of 100 steps on the cross-entropy and, towards each of up to 9 other classes, on the DLR,
    with two more runs of 200 steps towards the nearest; FAB of 100 steps towards 3 classes; Square
    with 1,000 queries; APGD on the DLR, and 2,000 queries of Square from there. Through BPDA, also
    with a stand-in, and on the bare classifier both first APGDs. On a random purifier APGD on both
    losses over 20 draws. On one that detects, orthogonal PGD of 100 steps from 6 starts. On one
    that answers with a generator's images, a search of 500 steps from 4 starts among these.

    The split was chosen on validation images: see ``docs/results/judge``.

    Args:
        classes: Of the victim.
        sources: What other trainings left behind: their classifiers' adversarial images are tried.
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
        Trial(targeted, Adaptive(), survivors=True),
        Trial(targeted, BPDA(), survivors=True),
        Trial(OrthogonalPGD(threat), DetectorAware(), survivors=True),
        Trial(LatentSearch(threat), InRange(), survivors=True),
        Trial(FAB(threat, targets=3), Adaptive(), survivors=True),
        Trial(targeted, Oblivious(), survivors=True),
        *_transfers(threat, sources),
        Trial(Square(threat, queries=1000), Adaptive(), survivors=True),
        Trial(GuidedSearch(threat), Adaptive(), survivors=True),
        _paper_style(threat),
    )


def quick(
    threat: ThreatModel,
    classes: int,  # noqa: ARG001
    sources: Sequence[Outcome] = (),
) -> tuple[Trial, ...]:
    """A subset for daily use, a tenth of the cost: APGD of 50 steps, and Square of 500 queries.

    Args:
        classes: Of the victim.
        sources: What other trainings left behind: their classifiers' adversarial images are tried.
    """
    ce, margin = APGD(threat, steps=50), APGD(threat, "margin", steps=50)
    averaged = replace(ce, early_stop=False)
    return (
        Trial(ce, Adaptive()),
        Trial(ce, BPDA(), survivors=True),
        Trial(ce, BPDA("approximation"), survivors=True),
        Trial(averaged, EOT(10), survivors=True),
        Trial(margin, Adaptive(), survivors=True),
        Trial(OrthogonalPGD(threat, restarts=2), DetectorAware(), survivors=True),
        *_transfers(threat, sources),
        Trial(Square(threat, queries=500), Adaptive(), survivors=True),
        _paper_style(threat),
    )


def _paper_style(threat: ThreatModel) -> Trial:
    """What papers attack the bare classifier with: 40 steps, all of them taken."""
    return Trial(PGD(threat, steps=40, early_stop=False), Oblivious())


def _transfers(threat: ThreatModel, sources: Sequence[Outcome]) -> list[Trial]:
    if not sources:
        return []
    victims = tuple(source.defended for source in sources)
    attack = Transfer(threat, victims, queries=sum(source.queries for source in sources))
    return [Trial(attack, Adaptive(), survivors=True)]


BATTERIES = {"standard": standard, "quick": quick}
