"""What a check of an evaluation reports, and what the reports add up to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["note", "low", "high"]
Verdict = Literal["trustworthy", "not trustworthy", "broken"]

BROKEN = 0.05
"""Robust accuracy below which a defence counts as broken."""


@dataclass(frozen=True)
class Finding:
    """Something that puts a robust accuracy in doubt. It says nothing about the defence itself.

    Args:
        check: Name of the check, the same in every version.
        severity: ``note``: the reader should know; ``low``: the number is somewhat too high;
            ``high``: the number is not to be trusted.
        saw: The numbers, each under the words that say what it is.
        means: What follows from them.
        next: What to run, or to change, now.
    """

    check: str
    severity: Severity
    saw: Mapping[str, int | float]
    means: str
    next: str

    def __str__(self) -> str:
        numbers = ", ".join(f"{what} {number:.3g}" for what, number in self.saw.items())
        return f"{self.check} ({self.severity}): {numbers}. {self.means} Next: {self.next}"


def severity_of(number: float, low: float, high: float) -> Severity | None:
    """How grave it is that ``number`` exceeds ``low``, or even ``high``."""
    return "high" if number > high else "low" if number > low else None


def verdict(findings: Sequence[Finding], robust_acc: float) -> Verdict:
    """Whether the number can be trusted, and whether the defence fell.

    An accuracy under 5 % needs no trust: an attack that works has been found.
    """
    if robust_acc < BROKEN:
        return "broken"
    if any(finding.severity == "high" for finding in findings):
        return "not trustworthy"
    return "trustworthy"
