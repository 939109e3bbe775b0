"""Scores: the outcome of every image under one attack, and the rates computed from it.

What each number means is written in ``docs/evaluation.md``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from spearshield.threat import L2, Linf, ThreatModel
from spearshield.types import DetectionScore, Draws, Ids, Labels, Mask, PerImage

Z95 = 1.959963984540054
REJECTED = -1
"""In place of a class: the victim noticed that something is wrong, and did not answer."""
CURVE = 20
"""Steps of a curve from distance 0 to the budget."""


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval of a share."""

    low: float
    high: float


def wilson(hits: int, trials: int) -> Interval:
    """The score interval of a binomial share; [0, 1] where there were no trials.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927,
    https://doi.org/10.1080/01621459.1927.10502953.
    """
    if trials == 0:
        return Interval(0.0, 1.0)
    share, z2 = hits / trials, Z95**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    spread = share * (1 - share) / trials + z2 / (4 * trials**2)
    half = Z95 / (1 + z2 / trials) * math.sqrt(spread)
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


@dataclass(frozen=True, eq=False)
class Score:
    """What happened to every image; rates are derived, so scores can be joined and intersected.

    ``victim`` is classifier(purifier(x)), ``bare`` the classifier alone; both hold predicted
    classes, on the clean and on the attacked image, or ``REJECTED``. To reject an attacked image
    is right; to reject a clean one is an error.

    Args:
        l2, linf: Size of each perturbation, on the [0, 1] scale.
        ssim: Structural similarity of the attacked and the clean image.
        clean_draws, adv_draws: Of a random victim, the classes of its independent answers; without
            columns where it does not draw. ``victim`` is then their majority.
        clean_detection, adv_detection: Of a victim that detects, how suspicious it finds each
            image; without columns where it does not detect.
        seconds: Time the attack took, over all images.
        forwards: Images sent through the classifier by the attack, over all images.
    """

    ids: Ids
    y: Labels
    victim_clean: Labels
    victim_adv: Labels
    bare_clean: Labels
    bare_adv: Labels
    l2: PerImage
    linf: PerImage
    ssim: PerImage
    clean_draws: Draws
    adv_draws: Draws
    clean_detection: DetectionScore
    adv_detection: DetectionScore
    seconds: float
    forwards: int

    @property
    def images(self) -> int:
        return len(self.y)

    @property
    def robust(self) -> Mask:
        """Images that the victim gets right before and after the attack."""
        return (self.victim_clean == self.y) & _right_or_rejected(self.victim_adv, self.y)

    @property
    def rejected(self) -> tuple[float, float] | None:
        """Shares of the clean and of the attacked images that were rejected; ``None``: no image."""
        clean, adv = self.victim_clean == REJECTED, self.victim_adv == REJECTED
        if not (clean | adv).any():
            return None
        return float(clean.double().mean()), float(adv.double().mean())

    @property
    def auc(self) -> float | None:
        """The chance that an attacked image is more suspicious than a clean one, ties by half.

        The area under the curve of true over false alarms, whatever the threshold: Hanley, McNeil,
        "The Meaning and Use of the Area under a Receiver Operating Characteristic (ROC) Curve",
        1982, https://doi.org/10.1148/radiology.143.1.7063747. ``None`` where nothing detects.
        """
        if self.clean_detection.shape[1] == 0:
            return None
        clean, adv = self.clean_detection.flatten().sort().values, self.adv_detection.flatten()
        below, upto = (torch.searchsorted(clean, adv, right=right) for right in (False, True))
        return float((below + upto).double().mean() / (2 * len(clean)))

    @property
    def roc(self) -> Float[Tensor, "thresholds 2"] | None:
        """What each threshold would reject, from none to all: shares of clean, attacked images.

        ``auc`` is the area under it. ``None`` where nothing detects.
        """
        if self.clean_detection.shape[1] == 0:
            return None
        calm = [-self.clean_detection.flatten(), -self.adv_detection.flatten()]
        thresholds = torch.unique(torch.cat(calm))  # ascending: the most suspicious first
        shares = [
            torch.searchsorted(each.sort().values, thresholds, right=True).double() / len(each)
            for each in calm
        ]
        return torch.cat([torch.zeros(1, 2).double(), torch.stack(shares, 1)])

    @property
    def acc(self) -> float:
        """Share of clean images that the victim gets right."""
        return float((self.victim_clean == self.y).double().mean())

    @property
    def robust_acc(self) -> float:
        """Share of all images that the victim gets right before and after the attack."""
        return float(self.robust.double().mean())

    @property
    def interval(self) -> Interval:
        """Of the robust accuracy."""
        return wilson(int(self.robust.sum()), self.images)

    @property
    def asr(self) -> float | None:
        """Of the images the bare classifier gets right, the share that the attack flips for it."""
        right = self.bare_clean == self.y
        return _share((self.bare_adv != self.y)[right])

    @property
    def dsr(self) -> float | None:
        """Of the adversarial images that fool the bare classifier, the share the victim parries.

        Only images count that the bare classifier gets right before the attack.
        """
        fooling = (self.bare_clean == self.y) & (self.bare_adv != self.y)
        return _share(_right_or_rejected(self.victim_adv, self.y)[fooling])

    @property
    def repeated(self) -> dict[str, tuple[float, float]] | None:
        """What a random victim's independent answers are worth, before and after the attack.

        ``one_shot``: the mean over answers; ``worst_of``: the share of images that every answer is
        right on; ``vote``: that the majority is right on; ``fixed_seed``: that the deployed answer
        is. The first number, on clean images, is the control: asked often enough, a random victim
        errs on those too. ``None`` where the victim does not draw.
        """
        if self.clean_draws.shape[1] == 0:
            return None
        clean, adv = (
            self.clean_draws == self.y[:, None],
            _right_or_rejected(self.adv_draws, self.y[:, None]),
        )
        votes = self.victim_clean == self.y, _right_or_rejected(self.victim_adv, self.y)
        pairs = {
            "one_shot": (clean, adv),
            "worst_of": (clean.all(1), adv.all(1)),
            "vote": votes,
            "fixed_seed": (clean[:, 0], adv[:, 0]),
        }
        mean = {k: [float(right.double().mean()) for right in pair] for k, pair in pairs.items()}
        return {name: (before, after) for name, (before, after) in mean.items()}

    def curve(self, threat: ThreatModel) -> list[tuple[float, float]]:
        """Distances from 0 to the budget, each with the robust accuracy at it.

        That is the share of all images that the victim gets right before the attack, and that were
        not broken within the distance. From an attack that does not look for the smallest
        perturbation of each image it says little: the true curve may lie anywhere below.
        """
        size = {Linf: self.linf, L2: self.l2}[type(threat)]
        # Rounding may have taken an image a little past the budget.
        falls = torch.where(self.robust, math.inf, size.clamp(max=threat.eps))
        right = self.victim_clean == self.y
        distances = [threat.eps * (k / CURVE) for k in range(CURVE + 1)]
        return [(d, float((right & (falls > d)).double().mean())) for d in distances]

    def updated(self, where: Mask, part: Score) -> Score:
        """This score with the images ``where`` replaced by those of ``part``, at its cost."""
        tensors = {name: getattr(self, name).clone() for name in TENSORS}
        for name, values in tensors.items():
            values[where] = getattr(part, name)
        return Score(**tensors, seconds=part.seconds, forwards=part.forwards)

    def first(self, count: int) -> Score:
        """The score over the first ``count`` images, with their share of the cost."""
        share = min(1.0, count / self.images)
        return Score(
            **{name: getattr(self, name)[:count] for name in TENSORS},
            seconds=share * self.seconds,
            forwards=round(share * self.forwards),
        )

    def __add__(self, other: Score) -> Score:
        """The score over both sets of images."""
        tensors = {name: torch.cat([getattr(self, name), getattr(other, name)]) for name in TENSORS}
        return Score(
            **tensors,
            seconds=self.seconds + other.seconds,
            forwards=self.forwards + other.forwards,
        )


TENSORS = (
    "ids",
    "y",
    "victim_clean",
    "victim_adv",
    "bare_clean",
    "bare_adv",
    "l2",
    "linf",
    "ssim",
    "clean_draws",
    "adv_draws",
    "clean_detection",
    "adv_detection",
)
"""The fields of a score that hold one row an image."""


def worst_case(scores: Sequence[Score]) -> Score:
    """The per-image worst case: of each image, the first attack that broke it, else the last.

    Raises:
        ValueError: There is no score, or they are not over the same images.
    """
    if not scores:
        raise ValueError("a worst case needs at least one score")
    if any(not torch.equal(score.ids, scores[0].ids) for score in scores):
        raise ValueError("a worst case needs scores over the same images, in the same order")

    def worse(first: Score, second: Score) -> Score:
        pick = {
            name: torch.where(_beside(first.robust, getattr(first, name)), b, a)
            for name in TENSORS
            for a, b in [(getattr(first, name), getattr(second, name))]
        }
        return Score(
            **pick,
            seconds=first.seconds + second.seconds,
            forwards=first.forwards + second.forwards,
        )

    return reduce(worse, scores)


def _right_or_rejected(answers: Tensor, y: Tensor) -> Tensor:
    """Which answers to attacked images are right: the class, or none."""
    return (answers == y) | (answers == REJECTED)


def _beside(mask: Mask, values: Tensor) -> Tensor:
    """The mask, shaped to pick rows of ``values``."""
    return mask.reshape(-1, *[1] * (values.ndim - 1))


def _share(mask: Mask) -> float | None:
    return float(mask.double().mean()) if len(mask) else None
