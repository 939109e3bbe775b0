"""Escalation: the attacks that follow a finding of high severity."""

from __future__ import annotations

from spearshield.attacks.square import Square
from spearshield.dataset import Examples
from spearshield.judging.trial import Trial
from spearshield.method import Defended
from spearshield.threat import ThreatModel


def escalation(
    threat: ThreatModel, victim: Defended, examples: Examples, classes: int, effort: str, seed: int
) -> tuple[Trial, ...]:
    """The attacks on survivors."""
    return (Trial(Square(threat, queries=20_000), survivors=True),)
