"""What finished scores say about each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from spearshield.attacks.fgsm import FGSM
from spearshield.judging.checks.detection import detector_ignored, false_alarms
from spearshield.judging.checks.finding import Finding
from spearshield.judging.checks.probe import share
from spearshield.judging.checks.strength import loss_gap_finding, single_step_finding
from spearshield.judging.checks.weaker_attackers import weaker_attacker_finding
from spearshield.judging.score import Score
from spearshield.judging.trial import Trial
from spearshield.threat import ThreatModel
from spearshield.training.transfer_attack import Transfer
from spearshield.types import Mask
from spearshield.views import BPDA, EOT, Adaptive, DetectorAware, InRange

Results = Sequence[tuple[Trial, Score]]
MARGINS = ("dlr", "margin")
"""Losses whose gradient does not fade where the victim is sure of itself."""
KNOWING = (Adaptive, BPDA, DetectorAware, EOT, InRange)
"""Views of an attacker who knows of the purifier."""


@dataclass(frozen=True, eq=False)
class TrialOutcome:
    """The images that one trial broke, itself: not those that it was spared."""

    trial: Trial
    broken: Mask

    @property
    def transferred(self) -> bool:
        return not isinstance(self.trial.view, KNOWING) or isinstance(self.trial.attack, Transfer)

    @property
    def white_box(self) -> bool:
        return not self.transferred and not self.trial.attack.gradient_free


def compare(results: Results) -> tuple[Finding, ...]:
    """Findings from the scores of one victim, image by image, for each threat model on its own.

    Images count that all trials of a threat model were made on. An image that an earlier trial
    broke says nothing about a later one on survivors.

    Args:
        results: In the order in which the trials were made.
    """
    by_threat: dict[ThreatModel, list[tuple[Trial, Score]]] = {}
    for trial, score in results:
        by_threat.setdefault(trial.attack.threat, []).append((trial, score))
    found = [finding for group in by_threat.values() for finding in _findings(_deeds(group))]
    found += [detector_ignored(results), false_alarms(results)]
    return tuple(finding for finding in found if finding is not None)


def _deeds(results: Results) -> list[TrialOutcome]:
    count = min(score.images for _, score in results)
    deeds: list[TrialOutcome] = []
    for trial, score in results:
        broken = ~score.first(count).robust
        if trial.survivors and deeds:
            broken &= ~_broken(deeds)
        deeds.append(TrialOutcome(trial, broken))
    return deeds


def _findings(deeds: Sequence[TrialOutcome]) -> Iterator[Finding | None]:
    white = [deed for deed in deeds if deed.white_box]
    if not white:
        yield _no_white_box(len(deeds))
        return
    left = ~_broken(white)
    foreign = [deed for deed in deeds if deed.transferred]
    blind = [deed for deed in deeds if not deed.transferred and not deed.white_box]
    if blind:
        yield weaker_attacker_finding(
            "black_box_wins", "attacks without gradients", left & _broken(blind)
        )
    if foreign:
        yield weaker_attacker_finding(
            "transfer_wins", "attacks on other models", left & _broken(foreign)
        )
    for view in dict.fromkeys(deed.trial.view for deed in white):
        same = [deed for deed in white if deed.trial.view == view]
        yield from _findings_through_one_view(same)


def _findings_through_one_view(deeds: Sequence[TrialOutcome]) -> Iterator[Finding | None]:
    whole = [deed for deed in deeds if not deed.trial.survivors]
    one = [deed for deed in whole if isinstance(deed.trial.attack, FGSM)]
    many = [deed for deed in whole if not isinstance(deed.trial.attack, FGSM)]
    if one and many:
        yield single_step_finding(share(~_broken(one)), share(~_broken(many)))
    losses = [getattr(deed.trial.attack, "loss", None) for deed in deeds]
    by_entropy = [deed for deed, loss in zip(deeds, losses, strict=True) if loss == "cross_entropy"]
    by_margin = [deed for deed, loss in zip(deeds, losses, strict=True) if loss in MARGINS]
    if by_entropy and by_margin:
        standing = ~_broken(by_entropy)
        yield loss_gap_finding(share(standing), share(standing & ~_broken(by_margin)))


def _broken(deeds: Sequence[TrialOutcome]) -> Mask:
    """The images that any of them broke."""
    return torch.stack([deed.broken for deed in deeds]).any(0)


def _no_white_box(count: int) -> Finding:
    return Finding(
        "no_white_box",
        "high",
        {"trials": count, "white-box trials": 0},
        "No attacker knew of the whole victim and used its gradient; the number is an upper bound.",
        "attack through the adaptive view, or through eot if the purifier is random.",
    )
