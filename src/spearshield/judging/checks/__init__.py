"""Checks of an evaluation itself: can its number be trusted?

An attack that fails says nothing about a defence. Each check here asks one question whose answer
is known for every honest evaluation, and reports a :class:`Finding` where the answer is another.

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
from spearshield.judging.finding import Finding, Severity, Verdict, verdict
from spearshield.judging.checks.probe import Probe
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
    strength.low_precision,
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
    """What puts the robust accuracy of ``victim`` against white-box attacks in doubt.

    It attacks the first ``images`` examples with PGD of 40 steps, about a dozen times. The victim
    itself is left alone. Where the victim rejects images, what it would answer them is examined.

    Raises:
        ValueError: There are no images, or the victim has no logit for each class.
    """
    if images < 1 or not len(examples):
        raise ValueError(f"images must be at least 1, got {images} of {len(examples)}")
    with ambient(seed):
        probe = Probe.of(victim, examples[:images], threat, seed=seed, device=device)
        answers = probe.ask(probe.x[:1])
        if answers.shape != (1, examples.classes):
            raise ValueError(
                f"the victim returned {tuple(answers.shape)} for one image of a data set with "
                f"{examples.classes} classes; give it one output a class"
            )
        return run_checks(probe)


def run_checks(probe: Probe) -> tuple[Finding, ...]:
    """The findings of all checks."""
    found = (check(probe) for check in CHECKS)
    return tuple(finding for finding in found if finding is not None)
