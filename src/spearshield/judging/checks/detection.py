"""Checks of purifiers that reject images."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from spearshield.judging.finding import Finding, severity_of
from spearshield.judging.checks.probe import Probe, share
from spearshield.judging.score import Score
from spearshield.judging.trial import Trial
from spearshield.method import Detects
from spearshield.views import DetectorAware

BLIND = (0.0, 0.05)
"""Share of images whose suspicion has no gradient; a few may be dead units."""
FALSE_ALARMS = 0.1
"""Share of clean images that a detector may reject without a word about it."""


def blind_detector(probe: Probe) -> Finding | None:
    """The suspicion has a gradient, so that an attacker can learn to stay unnoticed."""
    if not isinstance(probe.victim.purifier, Detects):
        return None
    x = probe.start.detach().requires_grad_()
    with torch.enable_grad():
        detection_score = probe.victim.detection_score(x)
        gradient = None
        if detection_score.requires_grad:
            (gradient,) = torch.autograd.grad(detection_score.sum(), x, allow_unused=True)
    lost = 1.0 if gradient is None else share((gradient == 0).flatten(1).all(1))
    severity = severity_of(lost, *BLIND)
    if severity is None:
        return None
    return Finding(
        "blind_detector",
        severity,
        {"share of images whose suspicion has no gradient": lost},
        "No attacker can follow the detector: it rejects what attacks do by accident, not what "
        "they must do.",
        "give the detector a differentiable stand-in and attack both; round attacked images to 8 "
        "bits.",
    )


def detector_ignored(results: Sequence[tuple[Trial, Score]]) -> Finding | None:
    """Where images are rejected, some attacker tried to stay unnoticed."""
    rejected = [score.rejected[1] for _, score in results if score.rejected]
    if not rejected or any(isinstance(trial.view, DetectorAware) for trial, _ in results):
        return None
    return Finding(
        "detector_ignored",
        "high",
        {"largest share of attacked images rejected": max(rejected)},
        "No attacker tried to stay unnoticed; the number is an upper bound.",
        "attack with orthogonal_pgd through the detector_aware view.",
    )


def false_alarms(results: Sequence[tuple[Trial, Score]]) -> Finding | None:
    """Few clean images are rejected."""
    share = max((score.rejected[0] for _, score in results if score.rejected), default=0.0)
    if share <= FALSE_ALARMS:
        return None
    return Finding(
        "false_alarms",
        "note",
        {"share of clean images rejected": share},
        "Whoever rejects everything is never fooled: read the accuracy on clean images first.",
        "set the threshold on clean validation images.",
    )
