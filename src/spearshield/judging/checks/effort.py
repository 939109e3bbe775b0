"""The effort of attacks: an evaluation whose attacks are all feeble says nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spearshield.discover import name_of
from spearshield.judging.checks.probe import share
from spearshield.judging.finding import Finding
from spearshield.judging.score import Score
from spearshield.judging.trial import Trial

FEW_PASSES = 10
"""Fewest forward passes for each surviving image of an attack that takes several steps."""
FAR_INSIDE = 0.5
"""Share of the budget; perturbations that are smaller on average do not use the budget."""
STILL = 0.5
"""Share of the surviving images for which the loss must rise."""


def feeble_attacks(scored: Sequence[tuple[Trial, Score]]) -> Finding | None:
    """A finding if all attacks on the victim are feeble: each has one of the faults below.

    An attack that breaks every image has no fault. A single attack with a single run for each image
    is a finding of low severity.
    """
    faults = [dict(_faults(trial, score)) for trial, score in scored]
    if scored and all(faults):
        (trial, _), found = min(zip(scored, faults, strict=True), key=lambda pair: len(pair[1]))
        return Finding(
            "feeble_attack",
            "high",
            found,
            f"No attack made an effort; {name_of(trial.attack)} made most. The number is only an "
            "upper bound.",
            "attack with a battery, or with more and larger steps from several random starts.",
        )
    if len(scored) == 1 and scored[0][1].robust.any() and _runs(scored[0][0]) == 1:
        return Finding(
            "feeble_attack",
            "low",
            {"attacks": 1, "runs for each image": 1},
            "A single run of a single attack is often stuck in a local optimum.",
            "attack with a battery, or from several random starts.",
        )
    return None


def _runs(trial: Trial) -> int | None:
    """Number of runs of an attack with restarts; ``None`` for other attacks."""
    runs: int | None = getattr(trial.attack, "restarts", None)
    return runs


def _faults(trial: Trial, score: Score) -> Iterator[tuple[str, int | float]]:
    """The faults of an attack on the images that survived it, each with its number."""
    attack, left = trial.attack, score.robust
    if not left.any():
        return
    passes = score.forwards / int(left.sum())
    if passes < FEW_PASSES:
        yield "largest possible number of forward passes for a surviving image", passes
    size = score.size(attack.threat)
    if size is not None and not attack.minimal:
        used = float(size[left].mean()) / attack.threat.eps
        if used < FAR_INSIDE:
            yield "mean share of the budget that is used", used
    if not attack.minimal:
        risen = share((score.adv_margin > score.clean_margin)[left])
        if risen < STILL:
            yield "share of surviving images whose loss rises", risen
    steps, length = getattr(attack, "steps", None), getattr(attack, "step_size", None)
    if steps and length and steps * length < attack.threat.eps:
        yield "sum of all steps, as a share of the budget", steps * length / attack.threat.eps
