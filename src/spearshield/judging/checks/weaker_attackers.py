"""Checks whether attackers with less knowledge break more than white-box attacks."""

from __future__ import annotations

from torch import nn

from spearshield.attacks.square import Square
from spearshield.judging.checks.attacks import NOISE_SAMPLES, Noise
from spearshield.judging.checks.probe import Probe, share
from spearshield.judging.finding import Finding, severity_of
from spearshield.storage.images import quantize_towards
from spearshield.types import Mask

NEWLY_BROKEN = (0.002, 0.05)
"""Shares of images that only a weaker attacker breaks: low and high. AutoAttack flags 0.2 points of
a thousand images; here a single image is never flagged. Random search alone breaks up to 3 % of the
images of sound networks after the quick battery."""
QUERIES = 300


def black_box_wins(probe: Probe) -> Finding | None:
    """A finding if random search breaks images that white-box attacks do not break."""
    left = probe.robust_to((Square(probe.threat, queries=QUERIES),), probe.survivors)
    return weaker_attacker_finding(
        "black_box_wins", "random search", probe.survivors & ~left, probe.weight
    )


def transfer_wins(probe: Probe) -> Finding | None:
    """A finding if transferred attacks break images that white-box attacks do not break.

    PGD attacks the bare classifier. Its images are tried exactly and rounded to 8 bits, because a
    victim may recognise attacked images by pixels between 8-bit levels.
    """
    if isinstance(probe.victim.purifier, nn.Identity):
        return None
    left = probe.survivors
    for x_adv in (probe.transferred, quantize_towards(probe.transferred, probe.x)):
        left = left & probe.correct(x_adv, probe.y)
    return weaker_attacker_finding(
        "transfer_wins", "attacks on the bare classifier", probe.survivors & ~left, probe.weight
    )


def noise_wins(probe: Probe) -> Finding | None:
    """A finding if random noise breaks images that white-box attacks do not break."""
    left = probe.robust_to((Noise(probe.threat),), probe.survivors)
    return weaker_attacker_finding(
        "noise_wins", f"{NOISE_SAMPLES} random images each", probe.survivors & ~left, probe.weight
    )


def weaker_attacker_finding(
    check: str, attacker: str, newly_broken: Mask, weight: float = 1.0
) -> Finding | None:
    """The finding, given the images that ``attacker`` broke and no white-box attack broke.

    Args:
        weight: The share of all attacked images that the mask represents.
    """
    gain = weight * share(newly_broken)
    severity = severity_of(gain, *NEWLY_BROKEN) if newly_broken.sum() > 1 else None
    if severity is None:
        return None
    return Finding(
        check,
        severity,
        {f"share of images broken by {attacker} alone": gain},
        "An attacker with less knowledge breaks more images, so the white-box attack fails where "
        "it could succeed.",
        "count these images as broken, and find out what hides the gradient.",
    )
