"""Checks of purifiers that reject images."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from spearshield.judging.checks.probe import Probe, share
from spearshield.judging.finding import Finding, severity_of
from spearshield.judging.score import Score
from spearshield.judging.trial import Trial
from spearshield.views import DetectorAware

NO_GRADIENT = (0.0, 0.05)
"""Shares of images without a gradient of the detection score: low and high. A few may have dead
units."""
FALSE_ALARMS = 0.1
"""Share of rejected clean images above which there is a note."""


def blind_detector(probe: Probe) -> Finding | None:
    """A finding if the detection score has no gradient, so that attacks cannot evade the detector.

    Without a detector there is no finding.
    """
    if not probe.victim.purifiers.detect:
        return None
    x = probe.start.detach().requires_grad_()
    with torch.enable_grad():
        detection_score = probe.victim.detection_score(x)
        gradient = None
        if detection_score.requires_grad:
            (gradient,) = torch.autograd.grad(detection_score.sum(), x, allow_unused=True)
    lost = 1.0 if gradient is None else share((gradient == 0).flatten(1).all(1))
    if severity := severity_of(lost, *NO_GRADIENT):
        return Finding(
            "blind_detector",
            severity,
            {"share of images without a gradient of the detection score": lost},
            "Gradient attacks cannot take the detector into account. It may detect side effects of "
            "attacks that an attacker can avoid.",
            "give the detector a differentiable approximation and attack both; also attack with "
            "images rounded to 8 bits.",
        )
    return None


def detector_ignored(scored: Sequence[tuple[Trial, Score]]) -> Finding | None:
    """A finding if images were rejected and no attack took the detector into account."""
    rejected = [score.rejected[1] for _, score in scored if score.rejected]
    if not rejected or any(isinstance(trial.view, DetectorAware) for trial, _ in scored):
        return None
    return Finding(
        "detector_ignored",
        "high",
        {"largest share of attacked images rejected": max(rejected)},
        "No attack tried to evade the detector. The number is only an upper bound.",
        "attack with orthogonal_pgd through the detector_aware view.",
    )


def false_alarms(scored: Sequence[tuple[Trial, Score]]) -> Finding | None:
    """A finding if many clean images are rejected."""
    share = max((score.rejected[0] for _, score in scored if score.rejected), default=0.0)
    if share <= FALSE_ALARMS:
        return None
    return Finding(
        "false_alarms",
        "note",
        {"share of clean images rejected": share},
        "A detector that rejects every image is robust and useless. Read the clean accuracy first.",
        "set the threshold on clean validation images.",
    )
