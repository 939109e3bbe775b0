"""Findings of the checks, and the verdict that follows from them. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from spearshield.judging.schema import keywords

Severity: TypeAlias = Literal["note", "low", "high"]
Verdict: TypeAlias = Literal["trustworthy", "not trustworthy", "broken"]

BROKEN = 0.05
"""A defence with a robust accuracy below this is broken."""


@dataclass(frozen=True)
class Finding:
    """A reason to doubt a robust accuracy. It is about the evaluation, not about the defence.

    Args:
        check: Name of the check, the same in every version.
        severity: ``note``: the reader should know; ``low``: the number is somewhat too high;
            ``high``: the number cannot be trusted.
        saw: The measured numbers, each under its description.
        means: What follows from them.
        next: What to run or to change next.
    """

    check: Annotated[str, keywords(minLength=1)]
    severity: Severity
    saw: dict[str, int | float]
    means: str
    next: str

    def __str__(self) -> str:
        numbers = ", ".join(f"{name} {number:.3g}" for name, number in self.saw.items())
        return f"{self.check} ({self.severity}): {numbers}. {self.means} Next: {self.next}"


def severity_of(number: float, low: float, high: float) -> Severity | None:
    """The severity of a number: ``high`` or ``low`` if it is above that threshold, else none."""
    return "high" if number > high else "low" if number > low else None


def verdict(findings: Sequence[Finding], robust_acc: float) -> Verdict:
    """Whether a robust accuracy can be trusted, and whether the defence is broken.

    A robust accuracy below 5 % is ``broken`` whatever the findings: a successful attack is proof.
    """
    if robust_acc < BROKEN:
        return "broken"
    if any(finding.severity == "high" for finding in findings):
        return "not trustworthy"
    return "trustworthy"
