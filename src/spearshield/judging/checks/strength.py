"""Checks of the white-box attack itself: is it as strong as it could be?"""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import torch

from spearshield.attack import loss_gradient
from spearshield.attacks.fgsm import FGSM
from spearshield.judging.checks.attacks import STEPS
from spearshield.judging.checks.finding import BROKEN, Finding, severity_of
from spearshield.judging.checks.probe import Probe, share
from spearshield.losses.margin import cross_entropy, margin_loss
from spearshield.types import Images, Labels, PerImage

CONVERGED, STUCK = 0.005, 0.1
"""Robust accuracy that more steps or restarts may cost, or one standard error if that is more;
and the loss at which the attack has hardly begun. Carlini et al., 2019, allow no change."""
LAST = 10
CREEPING = (0.05, 0.1)
"""Share of the margin's climb that the last steps make. Pintor et al., 2022, flag the first, of the
attacker's loss; but the cross-entropy climbs for long where it breaks nothing. Where the margin of
honest networks exceeds it, PGD of 400 steps takes another two to ten points. The second is exceeded
where steps move one pixel each; there the number means nothing."""
ROUNDING = 1e-5
"""Climb, as a share of the margin, that says nothing."""
LOSS_GAP = (0.05, 0.1)
"""How far the margin may lead below the cross-entropy. On the honest victims of the self-test it
leads less far; a saturated one loses sixty points."""
STRAY = 0.02
"""Share of images on which one step may do better than many, by luck."""
BUDGETS = (1 / 3, 1 / 2, 1, 3 / 2, 2, 3)
FLAT = 0.02
"""Fall of accuracy over these budgets under which a curve is flat."""
BETTER_THAN_NOISE = 2.0
"""How much more than noise an attack that works moves the margin, at the least."""
UNBOUNDED = 0.02
"""Accuracy that may be left when every image is allowed; Athalye et al., 2018, allow none."""
NEAR = 1 / 4
"""Distance to a planted adversarial example, in budgets."""
MISSED = (0.02, 0.1)
"""Share of planted examples that the attack may miss; on honest victims fewer than the first."""
LOW = (torch.bfloat16, torch.float16)
PRECISION = 0.002
"""Share of answers that may change in float32: the tolerance of AutoAttack's flags."""


def more_steps(probe: Probe) -> Finding | None:
    """Twice the steps break no further image."""
    gain = share(probe.white & ~probe.longer)
    severity = severity_of(gain, _tolerance(probe), STUCK)
    if severity is None:
        return None
    return Finding(
        "more_steps",
        severity,
        {"broken by twice the steps": gain, f"standing after {STEPS}": share(probe.white)},
        "The attack had not converged.",
        "double the steps until the number stays.",
    )


def not_converged(probe: Probe) -> Finding | None:
    """What stands has reached the top: its margin climbs no more (after Pintor et al., 2022)."""
    if not probe.white.any():
        return None
    late = float(_late_climb(probe).mean())
    severity = severity_of(late, *CREEPING)
    if severity is None:
        return None
    return Finding(
        "not_converged",
        severity,
        {f"share of the climb in the last {LAST} of {STEPS} steps": late},
        "The attack was still climbing when it stopped; what stands may fall later.",
        "take ten times the steps, or larger ones, until the margin stays.",
    )


def more_restarts(probe: Probe) -> Finding | None:
    """Two more random starts break no further image."""
    gain = share(probe.white & ~probe.restarted)
    severity = severity_of(gain, _tolerance(probe), STUCK)
    if severity is None:
        return None
    return Finding(
        "more_restarts",
        severity,
        {"broken by two more restarts": gain, "standing after one": share(probe.white)},
        "The attack gets stuck in local optima, or luck decides.",
        "add restarts until the number stays.",
    )


def single_step_wins(probe: Probe) -> Finding | None:
    """One step does not do better than many."""
    one = probe.standing(FGSM(probe.threat), probe.clean)
    return single_step_finding(share(one), share(probe.white))


def single_step_finding(one: float, many: float) -> Finding | None:
    """The finding, given the robust accuracy against one step and against many."""
    if many - one <= STRAY:
        return None
    return Finding(
        "single_step_wins",
        "high",
        {"robust accuracy against one step": one, "against many": many},
        "Following the gradient for longer makes it worse: the gradient misleads.",
        "attack with other step sizes, through the bpda view and without gradients.",
    )


def loss_gap(probe: Probe) -> Finding | None:
    """The margin leads no further than the cross-entropy."""
    return loss_gap_finding(share(probe.white), share(probe.by_margin))


def loss_gap_finding(by_entropy: float, by_margin: float) -> Finding | None:
    """The finding, given the robust accuracy under each of the two losses."""
    severity = severity_of(by_entropy - by_margin, *LOSS_GAP)
    if severity is None:
        return None
    return Finding(
        "loss_gap",
        severity,
        {"robust accuracy by cross-entropy": by_entropy, "and by margin": by_margin},
        "The cross-entropy loses its gradient on the way: the victim is too sure of itself.",
        "attack the margin and the DLR loss too, and count an image that any of them breaks.",
    )


def flat_accuracy(probe: Probe) -> Finding | None:
    """A ninefold budget breaks more images, or moves them at least more than noise does."""
    left, curve = probe.clean, {}
    for factor in BUDGETS:
        threat = replace(probe.threat, eps=factor * probe.threat.eps)
        left = (
            left & probe.white
            if factor == 1
            else probe.standing(probe.pgd(threat, steps=STEPS // 2), left)
        )
        curve[f"accuracy at eps {threat.eps:.3g}"] = share(left)
    first, *_, last = curve.values()
    if first - last >= FLAT or last <= BROKEN:
        return None
    noise = threat.project(
        probe.x + threat.sample_perturbation(probe.x, probe.rng.fold(2)), probe.x
    )
    by_noise = _rise(probe, noise)[left].abs().median()
    attacked = probe.after(probe.pgd(threat, steps=STEPS // 2), left)
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
    """Nothing is left when every image is allowed (Athalye et al., 2018)."""
    black, white = torch.zeros_like(probe.x[:1]), torch.ones_like(probe.x[:1])
    threat = replace(probe.threat, eps=float(probe.threat.distance(white, black)))
    left = share(probe.standing(probe.pgd(threat), probe.white))
    if left <= UNBOUNDED:
        return None
    return Finding(
        "unbounded_budget",
        "high",
        {f"accuracy at eps {threat.eps:.3g}": left},
        "An attacker who may submit any image must always win; this one does not.",
        "find out what hides the gradient; attack through the bpda view and without gradients.",
    )


def planted_example(probe: Probe) -> Finding | None:
    """Where an adversarial example is known to lie well inside the ball, the attack finds one.

    After Zimmermann, Brendel, Tramer, Carlini, "Increasing Confidence in Adversarial Robustness
    Evaluations", 2022, https://arxiv.org/abs/2206.13991, with another way to plant: the ball is
    put where the way to an image of another class crosses the boundary.
    """
    planted = _beside_the_boundary(probe)
    missed = share(planted.standing(probe.pgd(), planted.clean)[planted.clean])
    severity = severity_of(missed, *MISSED)
    if severity is None:
        return None
    return Finding(
        "planted_example",
        severity,
        {"share missed": missed, "planted": int(planted.clean.sum())},
        f"Each ball held an adversarial example within {NEAR:g} of its radius, and the attack "
        "did not find it.",
        "strengthen the attack until it finds what is there.",
    )


def low_precision(probe: Probe) -> Finding | None:
    """The victim computes in float32, or answers as it would in float32."""
    low = sum(p.dtype in LOW for p in probe.victim.parameters())
    answers = probe.ask(probe.start)
    if not low and not any(torch.equal(answers, answers.to(kind).to(answers)) for kind in LOW):
        return None
    changed = _changed_in_float32(probe)
    saw = {"parameters below float32": low}
    return Finding(
        "low_precision",
        "low" if changed is None else "high" if changed > PRECISION else "note",
        saw if changed is None else saw | {"share of answers that float32 changes": changed},
        "A rounding error may count as a broken image, or as a robust one.",
        "let the victim decide in float32.",
    )


def _tolerance(probe: Probe) -> float:
    """What more effort may cost before it says something."""
    p = share(probe.white)
    return max(CONVERGED, math.sqrt(p * (1 - p) / len(probe.y)))


def _late_climb(probe: Probe) -> PerImage:
    """Of what stands: the share of the best margin's climb under PGD that its last steps made."""
    model, threat, index = probe.model, probe.threat, probe.white.nonzero().squeeze(1)
    x, x_adv, y = probe.x[index], probe.start[index], probe.y[index]
    margins = [_margin(probe, x_adv, y)]
    for _ in range(STEPS):
        gradient = loss_gradient(model, x_adv, y, cross_entropy).gradient
        x_adv = threat.step(x_adv, x, gradient, threat.eps / 10)
        margins.append(_margin(probe, x_adv, y))
    best = torch.stack(margins).cummax(0).values
    whole = best[-1] - best[0] + ROUNDING * best[0].abs()
    late: PerImage = (best[-1] - best[-1 - LAST]) / whole.clamp(min=torch.finfo(whole.dtype).tiny)
    return late


@torch.no_grad()
def _margin(probe: Probe, x: Images, y: Labels) -> PerImage:
    return margin_loss(probe.model(x), y)


def _rise(probe: Probe, x_adv: Images) -> PerImage:
    """How far the margin of each image has moved towards error."""
    return _margin(probe, x_adv, probe.y) - _margin(probe, probe.x, probe.y)


def _changed_in_float32(probe: Probe) -> float | None:
    """Share of the attacked images; ``None`` where the victim insists on its own precision."""
    exact = replace(probe, victim=copy.deepcopy(probe.victim).float())
    try:
        return share(_classes(exact, probe.attacked) != _classes(probe, probe.attacked))
    except RuntimeError:
        return None


@torch.no_grad()
def _classes(probe: Probe, x: Images) -> Labels:
    return probe.ask(x).argmax(1)


@torch.no_grad()
def _beside_the_boundary(probe: Probe) -> Probe:
    """The probe with balls that reach across the boundary to a nearby image of another class."""
    guess = probe.model(probe.x).argmax(1)
    pixels = probe.x.flatten(1)
    other = guess != probe.y[:, None]
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
