"""Checks of what the victim answers, before any attack."""

from __future__ import annotations

import math

import torch

from spearshield.judging.finding import Finding
from spearshield.judging.checks.probe import LEVEL, PASSES, Probe, share
from spearshield.types import Images, Logits

CHANCE = 1e-4
"""Spread of answers above which a victim is random: Croce, Hein, 2020 (AutoAttack), checks.py."""
PROBABILITY = 1e-5
"""Slack of the test for probabilities: the same."""
ROUNDING = 1e-4
"""Difference of logits, in units of the largest, that arithmetic in another order explains."""
ALONE = 20
"""Images that are also asked one by one."""
RANGE = 1e-6
"""How far rounding may take a float pixel out of [0, 1]."""
INVISIBLE = 0.4 * LEVEL
"""Noise that an 8-bit picture cannot hold: it rounds to the same picture."""
JUMP, JUMPS = 0.25, 0.02
"""Total variation that is a jump, and the share of images that may make one. Of the honest victims
in the self-test none jumps at all."""
SINGLED_OUT, MATERIAL = 10.0, 0.05
"""The first invisible step away from a memorised image moves the logits that much more than the
second, and by that share of their size; where a function is smooth the steps move them alike."""


def training_mode(probe: Probe) -> Finding | None:
    """No layer may be in training mode (Croce et al., 2021, RobustBench, warns)."""
    layers = list(probe.victim.modules())
    training = sum(layer.training for layer in layers)
    if not training:
        return None
    return Finding(
        "training_mode",
        "high",
        {"layers in training mode": training, "of": len(layers)},
        "Dropout or the statistics of the batch act as a defence that no deployment has.",
        "call .eval() on the classifier and on the purifier, and evaluate anew.",
    )


def probabilities(probe: Probe) -> Finding | None:
    """The answers must be logits, not probabilities (Croce, Hein, 2020)."""
    answers = _ask(probe, probe.x)
    off = float((answers.sum(1) - 1).abs().max())
    inside = answers.min() > -PROBABILITY and answers.max() < 1 + PROBABILITY
    if not inside or off >= PROBABILITY:
        return None
    return Finding(
        "probabilities",
        "high",
        {"largest distance of a row's sum from 1": off},
        "The loss takes a second softmax; a saturated first one hides the gradient.",
        "return logits, without the softmax, and evaluate anew.",
    )


def random_answers(probe: Probe) -> Finding | None:
    """The same images asked again get the same answers, or the purifier says that it draws."""
    saw = {f"spread of {PASSES} answers": probe.spread}
    if probe.declares_chance:
        return Finding(
            "random_answers",
            "note",
            saw,
            "The purifier draws at random, and says so.",
            "attack the mean over draws, with more draws until the number stays.",
        )
    if probe.spread <= CHANCE:
        return None
    return Finding(
        "random_answers",
        "high",
        saw,
        "The victim draws at random without saying so: an attack climbs a moving target, and its "
        "number is another one next time.",
        "make the purifier a RandomPurifier and attack the mean over its draws.",
    )


def batch_dependence(probe: Probe) -> Finding | None:
    """An image gets the same answer alone, in a batch, and in a batch of another order."""
    if probe.spread > CHANCE:
        return None
    together = _ask(probe, probe.x)
    order = torch.arange(len(probe.x), device=probe.x.device).flip(0)
    shuffled = _ask(probe, probe.x[order])[order]
    difference = (shuffled - together).abs().amax(1)
    for i in range(min(ALONE, len(probe.x))):
        alone = _alone(probe, probe.x[i : i + 1])
        away = (alone - together[i]).abs().amax(1)
        difference[i] = torch.maximum(difference[i], away[0])
    scale = max(1.0, float(together.abs().max()))
    moved = difference > ROUNDING * scale
    if not moved.any():
        return None
    return Finding(
        "batch_dependence",
        "high",
        {"share of images": share(moved)},
        "The answer to an image depends on the images beside it, which an attacker does not meet "
        "and a deployment does not have.",
        "use fixed statistics, and randomness that belongs to the image.",
    )


def _alone(probe: Probe, x: Images) -> Logits:
    """The answer to one image; infinite where the victim only takes several."""
    try:
        return _ask(probe, x)
    except (RuntimeError, ValueError):
        return torch.full((1, 1), math.inf, device=x.device)


@torch.no_grad()
def purifier_range(probe: Probe) -> Finding | None:
    """The purifier maps images to images: of the same shape, finite, in [0, 1]."""
    noise = probe.rng.uniform(probe.x.shape[1:])
    x = torch.cat([probe.x, probe.start, noise])
    x_hat = probe.victim.purifier(x)
    if x_hat.shape != x.shape:
        saw = {"pixels for an image": x_hat[0].numel(), "instead of": x[0].numel()}
    else:
        inside = ((x_hat >= -RANGE) & (x_hat <= 1 + RANGE)).flatten(1).all(1)
        if inside.all():
            return None
        saw = {
            "share of images": share(~inside),
            "lowest pixel": float(x_hat.nan_to_num().min()),
            "highest pixel": float(x_hat.nan_to_num().max()),
        }
    return Finding(
        "purifier_range",
        "high",
        saw,
        "The classifier is shown what is no image; what it then says is no property of images.",
        "end the purifier with a sigmoid or a clamp, and train it with that.",
    )


def abrupt_answers(probe: Probe) -> Finding | None:
    """Two images that are the same 8-bit picture get the same answer.

    Asked of the clean images, of random ones in the ball, and of some that fool the classifier.
    """
    shares = {}
    where = {"clean": probe.x, "random": probe.start, "attacked": probe.transferred}
    for k, (name, x) in enumerate(where.items()):
        picture = (x / LEVEL).round() * LEVEL
        before, after = _still(probe, picture), _still(probe, _beside(probe, picture, k, 2))
        moved = (after.softmax(1) - before.softmax(1)).abs().sum(1) / 2
        shares[f"share of {name} images"] = share(moved > JUMP)
    if max(shares.values()) <= JUMPS:
        return None
    return Finding(
        "abrupt_answers",
        "high",
        shares,
        "Noise that no 8-bit picture can hold changes the answer: the victim tells attacked from "
        "clean images by their last digits, or draws from them. Gradients say nothing of it.",
        "round attacked images to 8 bits before the victim sees them; attack without gradients.",
    )


def memorised_images(probe: Probe) -> Finding | None:
    """The answer to a clean image follows from the answers around it."""
    here, beside, beyond = (_still(probe, _beside(probe, probe.x, 3, k)) for k in range(3))
    first, second = (beside - here).norm(dim=1), (beyond - beside).norm(dim=1)
    alone = (first > SINGLED_OUT * second) & (first > MATERIAL * here.norm(dim=1))
    if not alone.any():
        return None
    return Finding(
        "memorised_images",
        "high",
        {"share of images": share(alone)},
        "The victim treats these very images unlike everything beside them.",
        "evaluate on images that the defence has not seen, from a random start.",
    )


def not_finite(probe: Probe) -> Finding | None:
    """No answer and no gradient that the other checks asked for was NaN or infinite."""
    tally = probe.tally
    if not tally.answers and not tally.gradients:
        return None
    return Finding(
        "not_finite",
        "high",
        {"answers": tally.answers, "gradients": tally.gradients},
        "Attacks stop, or go astray, where the victim answers NaN or infinity, and an argmax over "
        "NaN is no class.",
        "find the operation (a logarithm or a root of zero, a division) and bound its argument.",
    )


def _beside(probe: Probe, x: Images, key: int, times: int) -> Images:
    """The images moved by invisible noise: not at all, half the way, or 2, all of it."""
    noise = probe.rng.fold(key).uniform(x.shape[1:], -INVISIBLE, INVISIBLE)
    return (x + times / 2 * noise).clamp(0, 1) if times else x


@torch.no_grad()
def _ask(probe: Probe, x: Images) -> Logits:
    return probe.ask(x)


@torch.no_grad()
def _still(probe: Probe, x: Images) -> Logits:
    return probe.still(x)
