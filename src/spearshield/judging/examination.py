"""The examination of a victim: checks before the battery, checks after it, and more attacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from spearshield.dataset import Examples
from spearshield.judging.certificate import NotCertifiable, certify
from spearshield.judging.checks import INSPECTIONS, STRENGTH, Check, run_checks
from spearshield.judging.checks.probe import Probe
from spearshield.judging.escalation import escalation
from spearshield.judging.evaluation import EvaluationSettings
from spearshield.judging.finding import Finding
from spearshield.judging.trial import Trial
from spearshield.method import Defended
from spearshield.progress import ProgressBar, no_bar
from spearshield.ranges import require
from spearshield.rng import ambient
from spearshield.threat import ThreatModel
from spearshield.types import Mask

TRIED = 20
"""Number of images that are tried first. If none is proved, no other image is tried."""

CLOSEST = 2
"""Number of these that are tried with linear bounds of every layer.

On networks that were not trained for proofs, they take half a minute for an image, or more.
"""


@dataclass(frozen=True)
class Examination:
    """The effort of the checks beside a battery.

    The cheap checks of the victim come first. After the battery, the checks of the strength of
    attacks examine the images that survived; a broken victim needs none. If a finding is of high
    severity, more attacks of other kinds follow.

    Args:
        images: Number of images for the checks of the victim.
        survivors: Largest number of surviving images for the checks of strength.
        effort: The effort of the attacks that follow a finding of high severity.

    Raises:
        ValueError: A number is not positive.
    """

    images: int = 100
    survivors: int = 50
    effort: Literal["quick", "standard"] = "standard"

    def __post_init__(self) -> None:
        require(self, "images", "survivors", at_least=1)

    def inspect(
        self,
        victim: Defended,
        examples: Examples,
        threat: ThreatModel,
        settings: EvaluationSettings,
        bar: ProgressBar = no_bar,
    ) -> tuple[Finding, ...]:
        """The findings of the checks of the victim.

        Args:
            bar: The bar of ``len(INSPECTIONS)`` checks.
        """
        return _findings(INSPECTIONS, victim, examples[: self.images], threat, settings, bar)

    def strength(
        self,
        victim: Defended,
        survivors: Examples,
        threat: ThreatModel,
        settings: EvaluationSettings,
        attacked: int,
        bar: ProgressBar = no_bar,
    ) -> tuple[Finding, ...]:
        """The findings of the checks of the strength of attacks.

        Args:
            survivors: The images that survived the battery.
            attacked: Number of images that the battery attacked.
            bar: The bar of ``len(STRENGTH)`` checks.
        """
        weight = len(survivors) / attacked
        part = survivors[: self.survivors]
        return _findings(STRENGTH, victim, part, threat, settings, bar, weight)

    def proved(
        self,
        victim: Defended,
        examples: Examples,
        threat: ThreatModel,
        settings: EvaluationSettings,
    ) -> Mask | None:
        """True for each image with a proof of robustness; ``None`` if there is none to be had.

        Proofs take longer than attacks. They are left to the effort ``standard``, and end if there
        is none for the first images.
        """
        if self.effort == "quick":
            return None
        x, y = examples.images(settings.device), examples.y.to(settings.device)
        try:
            first = certify(victim, x[:TRIED], y[:TRIED], threat, CLOSEST)
            proved = certify(victim, x, y, threat) if first.any() else torch.zeros_like(y).bool()
        except NotCertifiable:
            return None
        return proved.cpu()

    def escalation(
        self,
        victim: Defended,
        survivors: Examples,
        threat: ThreatModel,
        settings: EvaluationSettings,
    ) -> tuple[Trial, ...]:
        """The attacks that follow a finding of high severity, for the images that survived."""
        return escalation(threat, victim, survivors, survivors.classes, self.effort, settings.seed)


def _findings(
    checks: Sequence[Check],
    victim: Defended,
    examples: Examples,
    threat: ThreatModel,
    settings: EvaluationSettings,
    bar: ProgressBar,
    weight: float = 1.0,
) -> tuple[Finding, ...]:
    """The findings of checks on a copy of the victim.

    Args:
        weight: The share of all attacked images that the examples represent.
    """
    with ambient(settings.seed):
        seed, device = settings.seed, settings.device
        probe = Probe.of(victim, examples, threat, seed=seed, device=device, weight=weight)
        return run_checks(probe, checks, bar)
