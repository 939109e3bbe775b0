"""The examination of a victim: checks before the battery, checks after it, and more attacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spearshield.dataset import Examples
from spearshield.judging.checks import INSPECTIONS, STRENGTH, run_checks
from spearshield.judging.checks.probe import Probe
from spearshield.judging.escalation import escalation
from spearshield.judging.evaluation import EvaluationSettings
from spearshield.judging.finding import Finding
from spearshield.judging.trial import Trial
from spearshield.method import Defended
from spearshield.ranges import require
from spearshield.rng import ambient
from spearshield.threat import ThreatModel


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
    ) -> tuple[Finding, ...]:
        """The findings of the checks of the victim."""
        with ambient(settings.seed):
            probe = Probe.of(
                victim,
                examples[: self.images],
                threat,
                seed=settings.seed,
                device=settings.device,
            )
            return run_checks(probe, INSPECTIONS)

    def strength(
        self,
        victim: Defended,
        survivors: Examples,
        threat: ThreatModel,
        settings: EvaluationSettings,
        attacked: int,
    ) -> tuple[Finding, ...]:
        """The findings of the checks of the strength of attacks.

        Args:
            survivors: The images that survived the battery.
            attacked: Number of images that the battery attacked.
        """
        with ambient(settings.seed):
            probe = Probe.of(
                victim,
                survivors[: self.survivors],
                threat,
                seed=settings.seed,
                device=settings.device,
                weight=len(survivors) / attacked,
            )
            return run_checks(probe, STRENGTH)

    def escalation(
        self,
        victim: Defended,
        examples: Examples,
        threat: ThreatModel,
        settings: EvaluationSettings,
    ) -> tuple[Trial, ...]:
        """The attacks that follow a finding of high severity."""
        return escalation(threat, victim, examples, examples.classes, self.effort, settings.seed)
