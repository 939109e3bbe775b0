"""Checks of purifiers that reject images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from spearshield.judging.checks.attacks import STEPS
from spearshield.judging.checks.probe import Probe, share
from spearshield.judging.finding import Finding, severity_of
from spearshield.judging.score import Score
from spearshield.judging.trial import Trial
from spearshield.types import Images, PerImage
from spearshield.views import DetectorAware

LOWERED = 0.1
"""Smallest fall of the detection score along its gradient, as a share of its rise by an attack."""
NOT_LOWERED = (0.05, 0.5)
"""Shares of images whose detection score the gradient does not lower: low and high. Some images are
at the edge of their ball."""
FALSE_ALARMS = 0.1
"""Share of rejected clean images above which there is a note."""


def blind_detector(probe: Probe) -> Finding | None:
    """A finding if following the gradient of the detection score does not lower the score.

    Attacks then cannot evade the detector. The fall is compared with the rise of the score from
    clean to attacked images; where the score has no gradient at all, it cannot fall. Without a
    detector there is no finding.
    """
    if not probe.victim.purifiers.detect:
        return None
    x_adv, score = probe.transferred, probe.victim.detection_score
    with torch.no_grad():
        before, clean = score(x_adv.clone()), score(probe.x.clone())
    lowered = x_adv
    for _ in range(STEPS):
        gradient = _gradient(score, lowered)
        lowered = probe.threat.step(lowered, probe.x, -gradient, probe.threat.eps / 10)
    with torch.no_grad():
        fall = before - score(lowered.clone())
    rise = (before - clean).clamp(min=0)
    noticed = rise > 0
    flat = (_gradient(score, probe.start) == 0).flatten(1).all(1)
    blind = share(flat | (noticed & (fall <= LOWERED * rise)))
    if severity := severity_of(blind, *NOT_LOWERED):
        return Finding(
            "blind_detector",
            severity,
            {"share of images whose detection score the gradient does not lower": blind},
            "Gradient attacks cannot take the detector into account. It may detect side effects of "
            "attacks that an attacker can avoid.",
            "give the detector a differentiable approximation and attack both; also attack with "
            "images rounded to 8 bits.",
        )
    return None


def _gradient(score: Callable[[Images], PerImage], x: Images) -> Images:
    """The gradient of the detection score of each image; zero where it has none."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        detection_score = score(x.clone())
        if not detection_score.requires_grad:
            return torch.zeros_like(x)
        (gradient,) = torch.autograd.grad(detection_score.sum(), x, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient.nan_to_num(0.0, 0.0, 0.0)


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
