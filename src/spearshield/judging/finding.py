"""Findings of the checks, and the verdict on a robust accuracy. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias, get_args

from spearshield.judging.schema import keywords

Severity: TypeAlias = Literal["note", "low", "high"]
Verdict: TypeAlias = Literal["not examined", "not trustworthy", "broken", "no flaw found"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""All severities, from the mildest."""

COULD_NOT_RUN = "could_not_run"
"""The check of the finding that a part of the evaluation ended with an error."""

BROKEN = 0.05
"""A defence with a robust accuracy below this is broken."""
ENOUGH = 100
"""Smallest number of attacked images for a verdict: with fewer, the 95 % interval of a robust
accuracy of 50 % is more than 20 points wide."""


@dataclass(frozen=True)
class Finding:
    """A reason to doubt a robust accuracy. It is about the evaluation, not about the defence.

    Args:
        check: Name of the check, the same in every version.
        severity: ``note``: the reader should know; ``low``: the number is somewhat too high;
            ``high``: the number cannot be trusted.
        saw: The measured numbers, each under its description.
        means: The meaning of these numbers.
        next: The next thing to run or to change.
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
    """``high`` or ``low`` for the higher of the two thresholds that a number exceeds, else none."""
    return "high" if number > high else "low" if number > low else None


def verdict(
    findings: Sequence[Finding], robust_acc: float, *, images: int, examined: bool
) -> Verdict:
    """Whether a flaw of the evaluation was looked for and found, and whether the defence is broken.

    A victim with a robust accuracy below 5 % is ``broken`` whatever the findings: a successful
    attack is proof.

    Args:
        images: Number of attacked images.
        examined: True if a battery attacked the victim and the checks examined it.
    """
    if not examined or images < ENOUGH:
        return "not examined"
    if robust_acc < BROKEN:
        return "broken"
    if any(finding.severity == "high" for finding in findings):
        return "not trustworthy"
    return "no flaw found"
