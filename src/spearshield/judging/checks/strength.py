"""Checks of the strength of the white-box attack."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from spearshield.adversary import loss_gradient
from spearshield.attacks.fgsm import FGSM
from spearshield.judging.checks.attacks import STEPS, RandomSteps
from spearshield.judging.checks.probe import MORE, Probe, share
from spearshield.judging.finding import BROKEN, Finding, severity_of
from spearshield.losses.margin import margin_loss
from spearshield.types import Images, Labels, PerImage

CONVERGED, STUCK = 0.005, 0.1
"""Allowed share of images that more steps or restarts break: low (or one standard error, if that is
larger) and high. Carlini et al., 2019, allow none."""
LONG, LAST_STEPS = 200, 50
LATE_RISE = (0.05, 0.1)
"""Allowed share of the last steps in the rise of the margin loss: low and high. Pintor et al. flag
0.05 of the attacked loss, but the cross-entropy can rise without breaking images. For sound
networks above 0.05, PGD of 400 steps breaks another 2 to 10 % of the images. Above 0.1, each step
moves a single pixel, and the robust accuracy is meaningless."""
ROUNDING = 1e-5
"""Rise of the margin loss, relative to its size, that counts as rounding error."""
LOSS_GAP = 0.05
"""Difference of the robust accuracies under cross-entropy and margin loss. It is less for the sound
victims of the self-test, and 0.6 for a victim with logits times 1000. That victim is judged rightly
by the margin loss, so the severity is low."""
LUCK = 0.02
"""Allowed difference, by chance, of the robust accuracies under many steps and under one step."""
BETTER_THAN_RANDOM = 1.1
"""Smallest rise of the margin loss along the gradient, as a multiple of the rise in random
steps."""
BUDGETS = (1 / 3, 1 / 2, 1, 3 / 2, 2, 3)
"""Budgets of ``flat_accuracy``, as multiples of the budget under examination."""
FLAT = 0.02
"""Smallest decrease of the accuracy over these budgets."""
BETTER_THAN_NOISE = 2.0
"""Smallest rise of the margin loss under an attack, as a multiple of the change under noise."""
UNBOUNDED = 0.02
"""Allowed accuracy when every image is in the threat model; Athalye et al., 2018, allow none."""
NEAR = 1 / 4
"""Distance to a planted adversarial example, as a multiple of the budget."""
MISSED = (0.02, 0.1)
"""Allowed share of planted examples that the attack misses: low and high. For sound victims it is
below 0.02."""


def more_steps(probe: Probe) -> Finding | None:
    """A finding if ten times the steps break more images."""
    gain = probe.share(probe.robust & ~probe.robust_to_more_steps)
    if severity := severity_of(gain, _tolerance(probe), STUCK):
        return Finding(
            "more_steps",
            severity,
            {
                f"share of images broken by {MORE} times the steps": gain,
                f"robust accuracy after {STEPS} steps": probe.share(probe.robust),
            },
            "The attack had not converged.",
            "take more steps until the robust accuracy no longer changes.",
        )
    return None


def not_converged(probe: Probe) -> Finding | None:
    """A finding if the margin loss of surviving images still rises in the last of many steps.

    After Pintor et al., 2022.
    """
    if probe.detached or not probe.robust.any():
        return None
    late = float(_late_rise(probe).mean())
    if severity := severity_of(late, *LATE_RISE):
        return Finding(
            "not_converged",
            severity,
            {f"share of the rise in the last {LAST_STEPS} of {LONG} steps": late},
            "The loss was still rising when the attack stopped. More steps may break more images.",
            "take ten times the steps, or larger steps, until the margin no longer changes.",
        )
    return None


def more_restarts(probe: Probe) -> Finding | None:
    """A finding if two more random starts break more images."""
    gain = probe.share(probe.robust & ~probe.robust_to_more_restarts)
    if severity := severity_of(gain, _tolerance(probe), STUCK):
        return Finding(
            "more_restarts",
            severity,
            {
                "share of images broken by two more restarts": gain,
                "robust accuracy after one": probe.share(probe.robust),
            },
            "The result depends on the random start: the attack ends in local optima.",
            "add restarts until the robust accuracy no longer changes.",
        )
    return None


def single_step_wins(probe: Probe) -> Finding | None:
    """A finding if an attack of one step breaks more images than an attack of many."""
    one = probe.robust_to((FGSM(probe.threat),), probe.clean)
    return single_step_finding(probe.share(one), probe.share(probe.robust))


def single_step_finding(one: float, many: float) -> Finding | None:
    """The finding, given the robust accuracy under one step and under many."""
    if many - one <= LUCK:
        return None
    return Finding(
        "single_step_wins",
        "high",
        {"robust accuracy under one step": one, "under many steps": many},
        "More steps along the gradient make the attack weaker. The gradient is misleading.",
        "attack with other step sizes, through the bpda view and without gradients.",
    )


def loss_gap_finding(by_entropy: float, by_margin: float) -> Finding | None:
    """The finding, given the robust accuracy under each of the two losses."""
    if by_entropy - by_margin > LOSS_GAP:
        return Finding(
            "loss_gap",
            "low",
            {"robust accuracy under the cross-entropy": by_entropy, "under the margin": by_margin},
            "The gradient of the cross-entropy vanishes, because the victim is very confident.",
            "count an image that either loss breaks; do not compare with results of one loss.",
        )
    return None


def noise_gradient(probe: Probe) -> Finding | None:
    """A finding if steps in random directions raise the loss as much as steps along the gradient.

    Then the gradient carries no information about the images that survive.
    """
    left = probe.robust
    if not left.any():
        return None
    by_gradient, by_noise = (
        float(_rise(probe, x_adv)[left].median())
        for x_adv in (probe.attacked, probe.attacked_by((RandomSteps(probe.threat),), left))
    )
    if by_gradient > BETTER_THAN_RANDOM * by_noise:
        return None
    return Finding(
        "noise_gradient",
        "high",
        {"rise of the margin loss along the gradient": by_gradient, "in random steps": by_noise},
        "The gradient is no better than noise. White-box attacks search at random.",
        "find out what hides the gradient; attack by transfer and without gradients.",
    )


def flat_accuracy(probe: Probe) -> Finding | None:
    """A finding if a larger budget does not help the attack.

    The budget grows by a factor of nine. The attack must break more images, or at least increase
    the margin loss of the surviving images by more than noise does.
    """
    left, curve = probe.clean, {}
    for factor in BUDGETS:
        largest = probe.threat.diameter(probe.x)
        threat = replace(probe.threat, eps=min(factor * probe.threat.eps, largest))
        if factor == 1:
            left = left & probe.robust
        else:
            left = probe.robust_to(probe.pgd(threat, steps=STEPS // 2), left)
        curve[f"accuracy at eps {threat.eps:.3g}"] = share(left)
    first, *_, last = curve.values()
    if first - last >= FLAT or last <= BROKEN:
        return None
    perturbation = threat.sample_perturbation(probe.x, probe.rng.fold(2))
    noisy = threat.project(probe.x + perturbation, probe.x)
    attacked = probe.attacked_by(probe.pgd(threat, steps=STEPS // 2), left)
    by_noise = _rise(probe, noisy)[left].abs().median()
    by_attack = _rise(probe, attacked)[left].median()
    if by_attack > BETTER_THAN_NOISE * by_noise:
        return None
    return Finding(
        "flat_accuracy",
        "high",
        curve | {"margin moved by the attack": float(by_attack), "by noise": float(by_noise)},
        "The attack gains nothing from a larger budget.",
        "find out what hides the gradient; attack through the bpda view and without gradients.",
    )


def unbounded_budget(probe: Probe) -> Finding | None:
    """A finding if images survive although every image is allowed (Athalye et al., 2018)."""
    threat = replace(probe.threat, eps=probe.threat.diameter(probe.x))
    left = probe.share(probe.robust_to(probe.pgd(threat), probe.robust))
    if left <= UNBOUNDED:
        return None
    return Finding(
        "unbounded_budget",
        "high",
        {f"accuracy at eps {threat.eps:.3g}": left},
        "With an unlimited budget an attack must always succeed. This one does not.",
        "find out what hides the gradient; attack through the bpda view and without gradients.",
    )


def planted_example(probe: Probe) -> Finding | None:
    """A finding if the attack misses adversarial examples that certainly exist in the ball.

    After Zimmermann, Brendel, Tramer, Carlini, "Increasing Confidence in Adversarial Robustness
    Evaluations", 2022, https://arxiv.org/abs/2206.13991, with another way to plant an example: the
    centre of the ball is moved to the point at which the line to an image of another class crosses
    the decision boundary.
    """
    planted = _near_the_boundary(probe)
    missed = share(planted.robust_to(probe.pgd(), planted.clean)[planted.clean])
    if severity := severity_of(missed, *MISSED):
        return Finding(
            "planted_example",
            severity,
            {"share of planted examples missed": missed, "planted": int(planted.clean.sum())},
            f"Each ball contained an adversarial example within {NEAR:g} of its radius, and the "
            "attack did not find it.",
            "strengthen the attack until it finds the planted examples.",
        )
    return None


def _tolerance(probe: Probe) -> float:
    """The allowed share of images that more effort breaks by chance."""
    p = probe.share(probe.robust)
    return max(CONVERGED, math.sqrt(p * (1 - p) / len(probe.y)))


def _late_rise(probe: Probe) -> PerImage:
    """The share of the last steps of PGD in the rise of the margin loss of each surviving image.

    At every step, the largest margin loss so far counts.
    """
    model, threat, index = probe.model, probe.threat, probe.robust.nonzero().squeeze(1)
    x, x_adv, y = probe.x[index], probe.start[index], probe.y[index]
    margins = []
    for _ in range(LONG):
        margin, gradient, _ = loss_gradient(model, x_adv, y, margin_loss)
        margins.append(margin)
        x_adv = threat.step(x_adv, x, gradient, threat.eps / 10)
    margins.append(_margin(probe, x_adv, y))
    best = torch.stack(margins).cummax(0).values
    rise = best[-1] - best[0] + ROUNDING * best[0].abs()
    tiny = torch.finfo(rise.dtype).tiny
    late: PerImage = (best[-1] - best[-1 - LAST_STEPS]) / rise.clamp(min=tiny)
    return late


@torch.no_grad()
def _margin(probe: Probe, x: Images, y: Labels) -> PerImage:
    """The margin loss of each image."""
    return margin_loss(probe.model(x), y)


def _rise(probe: Probe, x_adv: Images) -> PerImage:
    """The rise of the margin loss of each image."""
    return _margin(probe, x_adv, probe.y) - _margin(probe, probe.x, probe.y)


@torch.no_grad()
def _near_the_boundary(probe: Probe) -> Probe:
    """The probe with images close to the decision boundary, still classified correctly."""
    predicted = probe.model(probe.x).argmax(1)
    pixels = probe.x.flatten(1)
    other = predicted != probe.y[:, None]
    index = (probe.clean & other.any(1)).nonzero().squeeze(1)
    nearest = torch.cdist(pixels, pixels).masked_fill(~other, math.inf).argmin(1)
    inside, outside, y = probe.x[index], probe.x[nearest[index]], probe.y[index]
    farthest = float(probe.threat.distance(outside, inside).max()) if len(index) else 0.0
    while farthest > NEAR * probe.threat.eps:
        middle = (inside + outside) / 2
        stays = (probe.model(middle).argmax(1) == y)[:, None, None, None]
        inside, outside = torch.where(stays, middle, inside), torch.where(stays, outside, middle)
        farthest /= 2
    return replace(probe, x=inside, y=y, rng=probe.rng[index])
