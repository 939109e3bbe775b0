"""Findings from a comparison of the scores of one victim."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch

from spearshield.attacks.fgsm import FGSM
from spearshield.judging.checks.detection import detector_ignored, false_alarms
from spearshield.judging.checks.effort import feeble_attacks
from spearshield.judging.checks.outputs import not_finite_scores
from spearshield.judging.checks.probe import share
from spearshield.judging.checks.strength import loss_gap_finding, single_step_finding
from spearshield.judging.checks.weaker_attackers import weaker_attacker_finding
from spearshield.judging.finding import Finding, severity_of
from spearshield.judging.score import Score
from spearshield.judging.trial import Trial
from spearshield.threat import ThreatModel
from spearshield.training.transfer_attack import Transfer
from spearshield.types import Mask
from spearshield.views import BPDA, EOT, Adaptive, DetectorAware, InRange

Scored: TypeAlias = Sequence[tuple[Trial, Score]]
MARGIN_LOSSES = ("dlr", "margin")
"""Losses that have a gradient even where the victim is very confident."""
GAP = (0.02, 0.1)
"""Share of images that only minimum-norm attacks break: low and high."""
STILL_BREAKING = 0.01
"""Share of images that the last attack on survivors may break."""
ADAPTIVE_VIEWS = (Adaptive, BPDA, DetectorAware, EOT, InRange)
"""Views of an attacker that is aware of the purifier."""


@dataclass(frozen=True, eq=False)
class TrialOutcome:
    """The images that one trial broke, except images that earlier trials had broken."""

    trial: Trial
    score: Score
    broken: Mask

    @property
    def transferred(self) -> bool:
        """True if the attack was made on another model than the whole victim."""
        adaptive = isinstance(self.trial.view, ADAPTIVE_VIEWS)
        return not adaptive or isinstance(self.trial.attack, Transfer)

    @property
    def white_box(self) -> bool:
        """True if the attack followed gradients of the whole victim."""
        attack = self.trial.attack
        return not (self.transferred or attack.gradient_free or attack.random_search)


def compare(scored: Scored) -> tuple[Finding, ...]:
    """Findings from the scores of one victim, image by image, for each threat model separately.

    Only the images that all trials of a threat model share are compared. For a trial on survivors,
    images that an earlier trial broke do not count.

    Args:
        scored: Trials and their scores, in the order of the trials.
    """
    by_threat: dict[ThreatModel, list[tuple[Trial, Score]]] = {}
    for trial, score in scored:
        by_threat.setdefault(trial.attack.threat, []).append((trial, score))
    found = [finding for group in by_threat.values() for finding in _findings(_outcomes(group))]
    found += [detector_ignored(scored), false_alarms(scored), not_finite_scores(scored)]
    return tuple(finding for finding in found if finding is not None)


def _outcomes(scored: Scored) -> list[TrialOutcome]:
    """The outcome of each trial on the images that all trials share."""
    count = min(score.images for _, score in scored)
    outcomes: list[TrialOutcome] = []
    for trial, score in scored:
        broken = ~score.first(count).robust
        if trial.survivors and outcomes:
            broken &= ~_broken(outcomes)
        outcomes.append(TrialOutcome(_as_white_box(trial), score, broken))
    return outcomes


def _as_white_box(trial: Trial) -> Trial:
    """The trial; if a run transfers an attack from the victim to itself, the attack on it."""
    attack, adaptive = trial.attack, isinstance(trial.view, Adaptive)
    if isinstance(attack, Transfer) and attack.names and adaptive:
        return replace(trial, attack=attack.on_sources)
    return trial


def _findings(outcomes: Sequence[TrialOutcome]) -> Iterator[Finding | None]:
    """Findings from the trials of one threat model."""
    white_box = [each for each in outcomes if each.white_box]
    if not white_box:
        yield Finding(
            "no_white_box",
            "high",
            {"trials": len(outcomes), "white-box trials": 0},
            "No attack used the gradient of the whole victim. The number is only an upper bound.",
            "attack through the adaptive view, or through eot if the purifier is random.",
        )
        return
    yield feeble_attacks([(each.trial, each.score) for each in white_box])
    yield _white_box_gap(white_box)
    yield _still_breaking(outcomes)
    left = ~_broken(white_box)
    transfer = [each for each in outcomes if each.transferred]
    black_box = [each for each in outcomes if not each.transferred and not each.white_box]
    if black_box:
        broken = left & _broken(black_box)
        yield weaker_attacker_finding("black_box_wins", "attacks without gradients", broken)
    if transfer:
        broken = left & _broken(transfer)
        yield weaker_attacker_finding("transfer_wins", "attacks on other models", broken)
    for view in dict.fromkeys(each.trial.view for each in white_box):
        yield from _findings_of_view([each for each in white_box if each.trial.view == view])


def _white_box_gap(outcomes: Sequence[TrialOutcome]) -> Finding | None:
    """A finding if minimum-norm attacks break many images that no attack inside the budget broke.

    Both kinds follow gradients, so one kind fails where it could succeed.
    """
    minimal = [each for each in outcomes if each.trial.attack.minimal]
    inside = [each for each in outcomes if not each.trial.attack.minimal]
    if not minimal or not inside:
        return None
    left = ~_broken(inside)
    gap = share(left & _broken(minimal))
    if severity := severity_of(gap, *GAP):
        return Finding(
            "white_box_gap",
            severity,
            {
                "robust accuracy under attacks inside the budget": share(left),
                "share of images broken by minimum-norm attacks alone": gap,
            },
            "White-box attacks of two kinds disagree. The kind that fails may fail on other images "
            "as well.",
            "take more steps and restarts of the stronger kind.",
        )
    return None


def _still_breaking(outcomes: Sequence[TrialOutcome]) -> Finding | None:
    """A finding if the last trial on survivors still breaks images."""
    on_survivors = [each for each in outcomes if each.trial.survivors]
    last = share(on_survivors[-1].broken) if on_survivors else 0.0
    if last <= STILL_BREAKING:
        return None
    return Finding(
        "still_breaking",
        "low",
        {"share of images broken by the last attack on survivors": last},
        "The battery ended while it was still breaking images. A longer one breaks more.",
        "audit with --effort standard, or with more queries of Square.",
    )


def _findings_of_view(outcomes: Sequence[TrialOutcome]) -> Iterator[Finding | None]:
    """Findings from white-box attacks through the same view."""
    whole = [each for each in outcomes if not each.trial.survivors]
    one_step = [each for each in whole if isinstance(each.trial.attack, FGSM)]
    many_steps = [each for each in whole if not isinstance(each.trial.attack, FGSM)]
    if one_step and many_steps:
        yield single_step_finding(share(~_broken(one_step)), share(~_broken(many_steps)))
    by_entropy = [each for each in outcomes if _loss(each) == "cross_entropy"]
    by_margin = [each for each in outcomes if _loss(each) in MARGIN_LOSSES]
    if by_entropy and by_margin:
        left = ~_broken(by_entropy)
        yield loss_gap_finding(share(left), share(left & ~_broken(by_margin)))


def _loss(outcome: TrialOutcome) -> str | None:
    """The name of the loss that the attack increases, if it has a choice of losses."""
    attack = outcome.trial.attack
    loss: str | None = getattr(attack, "loss", None)
    targeted = getattr(attack, "targets", None)
    return "dlr" if loss and targeted else loss


def _broken(outcomes: Sequence[TrialOutcome]) -> Mask:
    """Images that at least one trial broke."""
    return torch.stack([each.broken for each in outcomes]).any(0)
