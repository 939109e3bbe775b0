"""Checks of the purified images and logits of the victim, mostly without an attack."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from spearshield.attacks.fgsm import FGSM
from spearshield.foreign import ForeignError
from spearshield.judging.checks.probe import LEVEL, PASSES, Probe, share
from spearshield.judging.finding import Finding
from spearshield.judging.score import Score
from spearshield.judging.trial import Trial
from spearshield.types import Images, Logits, Mask

RANDOM = 1e-4
"""Spread of repeated logits above which a victim is random: Croce, Hein, 2020 (AutoAttack)."""
PROBABILITY = 1e-5
"""Tolerance of the test for probabilities: the same source."""
ROUNDING = 1e-4
"""Largest difference of logits, relative to the largest logit, by another order of operations."""
SINGLE = 20
"""Number of images that are also classified one by one."""
RANGE = 1e-6
"""Largest distance to [0, 1] that counts as rounding error."""
INVISIBLE = 0.4 * LEVEL
"""Amplitude of noise that vanishes when an image is rounded to 8 bits."""
JUMP, JUMPS = 0.25, 0.02
"""Total variation distance between probabilities that counts as a jump, and the allowed share of
images with a jump. No image has a jump for the sound victims of the self-test."""
NEIGHBOURS, ISOLATED, MATERIAL = 4, 10.0, 0.05
"""The logits of a memorised image are farther from the logits of its neighbours than those are from
each other, by this factor, and by this share of their norm. A smooth function returns similar
distances; a function with steps returns neighbours that differ."""
ODDITIES = 0.02
"""Allowed share of such images. A purifier that searches from random starts has about 0.01."""
LOW_PRECISION = (torch.bfloat16, torch.float16)
CHANGED = 0.002
"""Allowed share of predictions that change in float32: the tolerance of AutoAttack's flags."""


def training_mode(probe: Probe) -> Finding | None:
    """A finding if a layer is in training mode (as in RobustBench, Croce et al., 2021)."""
    layers = list(probe.victim.modules())
    training = sum(layer.training for layer in layers)
    if not training:
        return None
    return Finding(
        "training_mode",
        "high",
        {"layers in training mode": training, "of": len(layers)},
        "Dropout or batch statistics act as a defence that the deployed model does not have.",
        "call .eval() on the classifier and on the purifier, and evaluate again.",
    )


@torch.no_grad()
def probabilities(probe: Probe) -> Finding | None:
    """A finding if the outputs are probabilities, not logits (Croce, Hein, 2020)."""
    outputs = probe.deployed(probe.x)
    off = float((outputs.sum(1) - 1).abs().max())
    inside = outputs.min() > -PROBABILITY and outputs.max() < 1 + PROBABILITY
    if not inside or off >= PROBABILITY:
        return None
    return Finding(
        "probabilities",
        "high",
        {"largest distance of a row's sum from 1": off},
        "The loss applies a second softmax. A saturated first softmax hides the gradient.",
        "return logits, without the softmax, and evaluate again.",
    )


def random_answers(probe: Probe) -> Finding | None:
    """A finding if repeated passes over the same images return different logits.

    Its severity is ``note`` if the purifier declares its randomness, else ``high``.
    """
    saw = {f"spread of {PASSES} passes": probe.spread}
    if probe.declares_randomness:
        return Finding(
            "random_answers",
            "note",
            saw,
            "The purifier is random and declares it.",
            "attack the mean over draws, with more draws until the robust accuracy no longer "
            "changes.",
        )
    if probe.spread <= RANDOM:
        return None
    if probe.seeded_spread > RANDOM:
        return Finding(
            "random_answers",
            "high",
            saw | {"with a fixed global seed": probe.seeded_spread},
            "The victim answers the same image differently although the global generator is fixed: "
            "it depends on earlier queries, or on a generator of its own.",
            "evaluate a fresh copy for each query, or remove the memory.",
        )
    return Finding(
        "random_answers",
        "high",
        saw,
        "The victim is random without declaring it. Attacks follow noisy gradients, and the "
        "robust accuracy changes from run to run.",
        "make the purifier a RandomPurifier and attack the mean over its draws.",
    )


@torch.no_grad()
def batch_dependence(probe: Probe) -> Finding | None:
    """A finding if the logits of an image depend on the other images of its batch."""
    if probe.spread > RANDOM:
        return None
    together = probe.deployed(probe.x)
    order = torch.arange(len(probe.x), device=probe.x.device).flip(0)
    shuffled = probe.deployed(probe.x[order])[order]
    difference = (shuffled - together).abs().amax(1)
    for i in range(min(SINGLE, len(probe.x))):
        single = _single_logits(probe, probe.x[i : i + 1])
        away = (single - together[i]).abs().amax(1)
        difference[i] = torch.maximum(difference[i], away[0])
    scale = max(1.0, float(together.abs().max()))
    moved = difference > ROUNDING * scale
    if not moved.any():
        return None
    return Finding(
        "batch_dependence",
        "high",
        {"share of images": share(moved)},
        "The prediction for an image depends on the other images of its batch. An attacker and a "
        "deployed model see other batches.",
        "use fixed statistics, and randomness that belongs to the image.",
    )


@torch.no_grad()
def purifier_range(probe: Probe) -> Finding | None:
    """A finding if purified images are not finite, not in [0, 1] or of another shape."""
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
        "The purifier does not return images, so the predictions of the classifier are undefined.",
        "end the purifier with a sigmoid or a clamp, and train it with this layer.",
    )


@torch.no_grad()
def abrupt_answers(probe: Probe) -> Finding | None:
    """A finding if noise that vanishes in 8-bit images changes the probabilities.

    Tested on the clean images, on random images in the ball, and on images after one step along the
    gradient of the bare classifier.
    """
    shares = {}
    attacked = FGSM(probe.threat)(probe.bare, probe.x, probe.y, rng=probe.rng)
    groups = {"clean": probe.x, "random": probe.start, "attacked": attacked}
    for k, (name, x) in enumerate(groups.items()):
        rounded = (x / LEVEL).round() * LEVEL
        before = probe.deterministic(rounded)
        after = probe.deterministic(_beside(probe, rounded, k))
        moved = (after.softmax(1) - before.softmax(1)).abs().sum(1) / 2
        shares[f"share of {name} images"] = share(moved > JUMP)
    if max(shares.values()) <= JUMPS:
        return None
    return Finding(
        "abrupt_answers",
        "high",
        shares,
        "Noise below the resolution of 8-bit images changes the prediction. The victim uses it to "
        "recognise attacked images, or to seed its randomness. Gradients do not show this.",
        "round images to 8 bits in front of the victim; attack without gradients.",
    )


@torch.no_grad()
def memorised_images(probe: Probe) -> Finding | None:
    """A finding if the logits of a clean image differ from the logits of the nearest images.

    The same images shifted by one pixel must not differ in the same way: a victim that reacts to
    all images on 8-bit levels does not memorise images, nor does one whose answers vary.
    """
    if probe.spread > RANDOM:
        return None
    isolated, control = _isolated(probe, probe.x), _isolated(probe, probe.x.roll(1, -1))
    if share(isolated) <= max(2 * share(control), ODDITIES):
        return None
    return Finding(
        "memorised_images",
        "high",
        {"share of images": share(isolated)},
        "The victim treats exactly these images differently from all images around them.",
        "evaluate on images that were not used to build the defence, from a random start.",
    )


def low_precision(probe: Probe) -> Finding | None:
    """A finding if the victim computes in a lower precision than float32.

    Its severity is ``note`` if the predictions are the same in float32, ``high`` if they differ,
    and ``low`` if the victim does not run in float32.
    """
    low = sum(p.dtype in LOW_PRECISION for p in probe.victim.parameters())
    logits = probe.deployed(probe.start)
    rounded = any(torch.equal(logits, logits.to(kind).to(logits)) for kind in LOW_PRECISION)
    if not low and not rounded:
        return None
    changed = _changed_in_float32(probe)
    saw: dict[str, int | float] = {"parameters below float32": low}
    if changed is not None:
        saw["share of predictions that float32 changes"] = changed
    return Finding(
        "low_precision",
        "low" if changed is None else "high" if changed > CHANGED else "note",
        saw,
        "A rounding error may make an image look broken, or robust.",
        "evaluate the victim in float32.",
    )


def not_finite(probe: Probe) -> Finding | None:
    """A finding if logits or gradients in any other check were NaN or infinite."""
    counts = probe.non_finite
    return _not_finite({"logits": counts.logits, "gradients": counts.gradients})


def not_finite_scores(scored: Sequence[tuple[Trial, Score]]) -> Finding | None:
    """A finding if the victim returned NaN or infinity for clean or attacked images of a trial.

    Such an image counts as misclassified.
    """
    counts = [score.not_finite for _, score in scored]
    clean, attacked = (max((pair[k] for pair in counts), default=0) for k in (0, 1))
    return _not_finite({"clean images": clean, "attacked images": attacked})


def _not_finite(counts: dict[str, int | float]) -> Finding | None:
    if not any(counts.values()):
        return None
    return Finding(
        "not_finite",
        "high",
        counts,
        "Attacks fail where logits or gradients are NaN or infinite, and an argmax over NaN is not "
        "a class.",
        "find the operation (a logarithm or a root of zero, a division) and bound its argument.",
    )


def _isolated(probe: Probe, x: Images) -> Mask:
    """True for each image whose logits differ from the logits of the nearest images."""
    here = probe.deterministic(x)
    around = torch.stack(
        [probe.deterministic(_beside(probe, x, 3 + k)) for k in range(NEIGHBOURS)], 1
    )
    nearest = (around - here[:, None]).norm(dim=2).amin(1)
    apart = torch.cdist(around, around).flatten(1).amax(1)
    isolated: Mask = (nearest > ISOLATED * apart) & (nearest > MATERIAL * here.norm(dim=1))
    return isolated


@torch.no_grad()
def _changed_in_float32(probe: Probe) -> float | None:
    """Share of changed predictions of attacked images; ``None`` if float32 does not run."""
    exact = replace(probe, victim=copy.deepcopy(probe.victim).float())
    try:
        changed: Mask = exact.deployed(probe.attacked).argmax(1) != (
            probe.deployed(probe.attacked).argmax(1)
        )
    except (RuntimeError, ForeignError):
        return None
    return share(changed)


def _beside(probe: Probe, x: Images, key: int) -> Images:
    """The images plus invisible noise."""
    return (x + probe.rng.fold(key).uniform(x.shape[1:], -INVISIBLE, INVISIBLE)).clamp(0, 1)


def _single_logits(probe: Probe, x: Images) -> Logits:
    """The logits of one image; infinite if the victim fails on a single image."""
    try:
        return probe.deployed(x)
    except (RuntimeError, ValueError):
        return torch.full((1, 1), math.inf, device=x.device)
