"""The batteries: which attacks, through which views, make a robust accuracy worth printing.

Two trials are made on every image: the first, an adaptive attacker's, and the last, the oblivious
one's, for the figure of the paper style. Those between take the images that are still standing, so
their number is that of all so far, and the cost is set by the images that survive. Attackers who
know less come after those who know more: what they break then says something. A trial is made
where its view suits the victim: see :mod:`spearshield.views`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from spearshield.attacks.apgd import APGD
from spearshield.attacks.auto_attack import AutoAttack
from spearshield.attacks.pgd import PGD
from spearshield.attacks.square import Square
from spearshield.recipe import Trial
from spearshield.threat import ThreatModel
from spearshield.transfer import Transfer
from spearshield.views import BPDA, EOT, Adaptive, Oblivious

IMAGES = {"standard": 1000, "quick": 200}
"""Images that a battery is made on where the caller does not say."""


def standard(
    threat: ThreatModel, classes: int, sources: Sequence[nn.Module] = ()
) -> tuple[Trial, ...]:
    """AutoAttack's four parts on the whole victim, and what a purifier needs on top of them.

    APGD of 100 steps on the cross-entropy and, towards each of up to 9 other classes, on the DLR;
    FAB of 100 steps towards each of them; Square with 5,000 queries. Through BPDA, also with a
    stand-in, and on the bare classifier both APGDs. On a random purifier APGD on both losses over
    20 draws.

    Args:
        classes: Of the victim.
        sources: Other classifiers, whose adversarial images are tried too.
    """
    ce, targeted, boundary, search = AutoAttack(threat).parts(classes)
    averaged = AutoAttack(threat, version="rand").parts(classes)
    return (
        Trial(ce, Adaptive()),
        Trial(ce, BPDA(), survivors=True),
        Trial(ce, BPDA("stand_in"), survivors=True),
        *(Trial(attack, EOT(20), survivors=True) for attack in averaged),
        Trial(targeted, Adaptive(), survivors=True),
        Trial(targeted, BPDA(), survivors=True),
        Trial(boundary, Adaptive(), survivors=True),
        Trial(targeted, Oblivious(), survivors=True),
        *_transfers(threat, sources),
        Trial(search, Adaptive(), survivors=True),
        _paper_style(threat),
    )


def quick(
    threat: ThreatModel,
    classes: int,  # noqa: ARG001
    sources: Sequence[nn.Module] = (),
) -> tuple[Trial, ...]:
    """A subset for daily use, a tenth of the cost: APGD of 50 steps, and Square of 500 queries.

    Args:
        classes: Of the victim.
        sources: Other classifiers, whose adversarial images are tried too.
    """
    ce, margin = APGD(threat, steps=50), APGD(threat, "margin", steps=50)
    averaged = replace(ce, early_stop=False)
    return (
        Trial(ce, Adaptive()),
        Trial(ce, BPDA(), survivors=True),
        Trial(ce, BPDA("stand_in"), survivors=True),
        Trial(averaged, EOT(10), survivors=True),
        Trial(margin, Adaptive(), survivors=True),
        *_transfers(threat, sources),
        Trial(Square(threat, queries=500), Adaptive(), survivors=True),
        _paper_style(threat),
    )


def _paper_style(threat: ThreatModel) -> Trial:
    """What papers attack the bare classifier with: 40 steps, all of them taken."""
    return Trial(PGD(threat, steps=40, early_stop=False), Oblivious())


def _transfers(threat: ThreatModel, sources: Sequence[nn.Module]) -> list[Trial]:
    if not sources:
        return []
    return [Trial(Transfer(threat, tuple(sources)), Adaptive(), survivors=True)]


BATTERIES = {"standard": standard, "quick": quick}
