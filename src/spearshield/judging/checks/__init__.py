"""Checks of an evaluation: can its robust accuracy be trusted?

If an attack fails, the reason may be the attack or the evaluation, not the defence. Each check
tests a property of every sound evaluation, and returns a :class:`Finding` if it does not hold.

Athalye, Carlini, Wagner, "Obfuscated Gradients Give a False Sense of Security", 2018,
https://arxiv.org/abs/1802.00420. Carlini et al., "On Evaluating Adversarial Robustness", 2019,
https://arxiv.org/abs/1902.06705. Croce, Hein, "Reliable Evaluation of Adversarial Robustness with
an Ensemble of Diverse Parameter-free Attacks", 2020, https://arxiv.org/abs/2003.01690, with the
flags of its code. Pintor et al., "Indicators of Attack Failure", 2022,
https://arxiv.org/abs/2106.09947.
"""

from __future__ import annotations

import torch

from spearshield.dataset import Examples
from spearshield.judging.checks import detection, gradients, outputs, strength, weaker_attackers
from spearshield.judging.checks.comparison import compare
from spearshield.judging.checks.probe import Probe
from spearshield.judging.finding import Finding, Severity, Verdict, verdict
from spearshield.method import Defended
from spearshield.rng import ambient
from spearshield.threat import ThreatModel

__all__ = ["Finding", "Severity", "Verdict", "compare", "examine", "verdict"]

CHECKS = (
    outputs.training_mode,
    outputs.random_answers,
    outputs.batch_dependence,
    outputs.probabilities,
    outputs.purifier_range,
    outputs.abrupt_answers,
    outputs.memorised_images,
    gradients.inner_optimisation,
    gradients.broken_graph,
    gradients.zero_gradient,
    gradients.saturated_gradient,
    gradients.false_gradient,
    strength.more_steps,
    strength.not_converged,
    strength.more_restarts,
    strength.single_step_wins,
    strength.loss_gap,
    strength.flat_accuracy,
    strength.unbounded_budget,
    strength.planted_example,
    outputs.low_precision,
    weaker_attackers.black_box_wins,
    weaker_attackers.transfer_wins,
    weaker_attackers.noise_wins,
    detection.blind_detector,
    outputs.not_finite,
)


def examine(
    victim: Defended,
    examples: Examples,
    threat: ThreatModel,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    images: int = 100,
) -> tuple[Finding, ...]:
    """Findings about the robust accuracy of ``victim`` under white-box attacks.

    The checks attack the images with PGD of 40 steps, about a dozen times, on a copy of the victim.
    For a victim that rejects images, the logits of rejected images are examined as well.

    Args:
        images: Number of examples to use, from the first.

    Raises:
        ValueError: There are no images, or the victim does not return one logit for each class.
    """
    if images < 1 or not len(examples):
        raise ValueError(f"images must be at least 1, got {images} of {len(examples)}")
    with ambient(seed):
        probe = Probe.of(victim, examples[:images], threat, seed=seed, device=device)
        logits = probe.deployed(probe.x[:1])
        if logits.shape != (1, examples.classes):
            raise ValueError(
                f"the victim returned {tuple(logits.shape)} for one image of a data set with "
                f"{examples.classes} classes; give it one output for each class"
            )
        return run_checks(probe)


def run_checks(probe: Probe) -> tuple[Finding, ...]:
    """The findings of all checks."""
    found = (check(probe) for check in CHECKS)
    return tuple(finding for finding in found if finding is not None)
