"""Checks of an evaluation, which show whether its robust accuracy can be trusted.

The reason why an attack fails may be a fault of the attack or of the evaluation, not the defence.
Each check tests a property of every sound evaluation, and returns a :class:`Finding` if the
evaluation does not have it.

Athalye, Carlini, Wagner, "Obfuscated Gradients Give a False Sense of Security", 2018,
https://arxiv.org/abs/1802.00420. Carlini et al., "On Evaluating Adversarial Robustness", 2019,
https://arxiv.org/abs/1902.06705. Croce, Hein, "Reliable Evaluation of Adversarial Robustness with
an Ensemble of Diverse Parameter-free Attacks", 2020, https://arxiv.org/abs/2003.01690, with the
flags of its code. Pintor et al., "Indicators of Attack Failure", 2022,
https://arxiv.org/abs/2106.09947.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from spearshield.foreign import cause
from spearshield.judging.checks import detection, gradients, outputs, strength, weaker_attackers
from spearshield.judging.checks.comparison import compare
from spearshield.judging.checks.probe import Probe
from spearshield.judging.finding import (
    COULD_NOT_RUN,
    SEVERITIES,
    Finding,
    Severity,
    Verdict,
    verdict,
)
from spearshield.progress import ProgressBar, no_bar

__all__ = [
    "INSPECTIONS",
    "STRENGTH",
    "Check",
    "Finding",
    "Severity",
    "Verdict",
    "compare",
    "could_not_run",
    "escalated",
    "gravest",
    "run_checks",
    "verdict",
]

Check: TypeAlias = Callable[[Probe], Finding | None]

INSPECTIONS: tuple[Check, ...] = (
    outputs.training_mode,
    outputs.random_answers,
    outputs.batch_dependence,
    outputs.probabilities,
    outputs.purifier_range,
    outputs.abrupt_answers,
    outputs.memorised_images,
    outputs.low_precision,
    gradients.inner_optimisation,
    gradients.broken_graph,
    gradients.zero_gradient,
    gradients.saturated_gradient,
    gradients.false_gradient,
    detection.blind_detector,
    outputs.not_finite,
)
"""Checks of the victim, before the battery. They attack with at most one step, except on purifiers
that reject images."""
STRENGTH: tuple[Check, ...] = (
    strength.more_steps,
    strength.not_converged,
    strength.more_restarts,
    strength.single_step_wins,
    strength.noise_gradient,
    strength.flat_accuracy,
    strength.unbounded_budget,
    strength.planted_example,
    weaker_attackers.black_box_wins,
    weaker_attackers.transfer_wins,
    weaker_attackers.noise_wins,
)
"""Checks of the strength of attacks, on the images that survived the battery."""


def run_checks(
    probe: Probe, checks: Sequence[Check], bar: ProgressBar = no_bar
) -> tuple[Finding, ...]:
    """The findings of the checks; a check that cannot run on the victim is a finding.

    Args:
        bar: Called before each check with the number of checks done and the name of the check.
    """
    found = []
    for done, check in enumerate(checks):
        bar(done, {check.__name__: None})
        found.append(_run(probe, check))
    bar(len(checks), {})
    return tuple(finding for finding in found if finding is not None)


def _run(probe: Probe, check: Check) -> Finding | None:
    try:
        return check(probe)
    except Exception as error:  # noqa: BLE001 - whatever the user's network raises
        return could_not_run(check.__name__, error)


def gravest(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings, with the gravest of those of the same check."""
    kept: dict[str, Finding] = {}
    for finding in findings:
        earlier = kept.get(finding.check)
        if earlier is None or SEVERITIES.index(finding.severity) > SEVERITIES.index(
            earlier.severity
        ):
            kept[finding.check] = finding
    return tuple(kept.values())


def escalated(before: float, after: float) -> tuple[Finding, ...]:
    """A note if the attacks that followed a grave finding lowered the robust accuracy."""
    if after == before:
        return ()
    return (
        Finding(
            "escalated",
            "note",
            {"robust accuracy before": before, "after": after},
            "A finding of high severity was followed by more attacks, and they broke more images.",
            "count on the lower number, and on less.",
        ),
    )


def could_not_run(part: str, error: Exception) -> Finding:
    """The finding that a check or an attack ended with an error."""
    return Finding(
        COULD_NOT_RUN,
        "high",
        {"parts that ended with an error": 1},
        f"{part} failed on the victim: {cause(error)}. What it would have shown is not known.",
        "correct the error, and evaluate again.",
    )
