"""Checks whether attackers who know less do better."""

from __future__ import annotations

from torch import nn

from spearshield.attacks.square import Square
from spearshield.judging.checks.attacks import NOISES, Noise
from spearshield.judging.finding import Finding, severity_of
from spearshield.judging.checks.probe import Probe, share
from spearshield.storage.images import quantize_towards
from spearshield.types import Mask

NEW = (0.002, 0.02)
"""Share of images that a weaker attacker may break in addition. AutoAttack flags 0.2 points,
of a thousand images; of fewer, one alone is no flag."""
QUERIES = 300


def black_box_wins(probe: Probe) -> Finding | None:
    """Random search without gradients breaks no image that white-box attacks do not."""
    left = probe.standing(Square(probe.threat, queries=QUERIES), probe.survivors)
    return weaker_attacker_finding("black_box_wins", "random search", probe.survivors & ~left)


def transfer_wins(probe: Probe) -> Finding | None:
    """Attacks on the bare classifier break no image that attacks on the victim do not.

    Judged as they are, and rounded to 8 bits: a victim may know attacked images by their digits.
    """
    if isinstance(probe.victim.purifier, nn.Identity):
        return None
    left = probe.survivors
    for x_adv in (probe.transferred, quantize_towards(probe.transferred, probe.x)):
        left = left & probe.right(x_adv, probe.y)
    return weaker_attacker_finding(
        "transfer_wins", "attacks on the bare classifier", probe.survivors & ~left
    )


def noise_wins(probe: Probe) -> Finding | None:
    """Random images in the ball break no image that white-box attacks do not."""
    left = probe.standing(Noise(probe.threat), probe.survivors)
    return weaker_attacker_finding(
        "noise_wins", f"{NOISES} random images each", probe.survivors & ~left
    )


def weaker_attacker_finding(check: str, rival: str, newly_broken: Mask) -> Finding | None:
    """The finding, given the images that ``rival`` broke and no white-box attack did."""
    gain = share(newly_broken)
    severity = severity_of(gain, *NEW) if newly_broken.sum() > 1 else None
    if severity is None:
        return None
    return Finding(
        check,
        severity,
        {f"share of images broken by {rival} alone": gain},
        "An attacker who knows less did better, so the white-box attack fails where it could "
        "succeed.",
        "count these images as broken, and find out what hides the gradient.",
    )
