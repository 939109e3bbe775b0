"""Scores: the predictions for every image under one attack, and the rates that follow from them.

``docs/evaluation.md`` defines every rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import reduce

import torch
from torch import Tensor

from spearshield.judging.interval import Interval, wilson
from spearshield.judging.results import Statistic
from spearshield.threat import ThreatModel
from spearshield.types import DetectionScore, Draws, Ids, Labels, Mask, PerImage

REJECTED = -1
"""The predicted class of an image that the victim rejects."""
NO_CLASS = -2
"""The predicted class of an image for which the victim returns NaN or infinity."""
ROUNDING = 1e-5
"""Largest excess of a perturbation over the budget that counts as rounding error."""
CURVE_STEPS = 20
"""Steps of a curve from distance 0 to the budget."""


@dataclass(frozen=True, eq=False)
class Score:
    """The predictions for every image; rates are derived, so scores can be combined.

    All tensors have one row per image. Rejecting an attacked image is correct; rejecting a clean
    image is an error, and so is any output that is not finite.

    Args:
        ids, y: Ids and labels of the images.
        victim_clean, victim_adv: Classes that the victim predicts for the clean and for the
            attacked image, or ``REJECTED``.
        bare_clean, bare_adv: The same for the classifier without its purifier.
        l2, linf: Norm of each perturbation, on the [0, 1] pixel scale.
        normalised_l2: L2 norm of each perturbation, divided by the L2 norm of the clean image.
        ssim: Structural similarity of the attacked and the clean image.
        clean_margin, adv_margin: Margin loss of the victim: the highest other logit minus the logit
            of the label, mean over the draws of a random victim.
        clean_draws, adv_draws: Classes that a random victim predicts in independent draws, one
            column per draw; no columns for other victims. ``victim_clean`` and ``victim_adv`` are
            their majority.
        clean_detection, adv_detection: Detection score of each image; no columns if the victim has
            no detector.
        seconds: Time that the attack took, over all images.
        forwards: Images that the attack sent through the classifier, over all images.
    """

    ids: Ids
    y: Labels
    victim_clean: Labels
    victim_adv: Labels
    bare_clean: Labels
    bare_adv: Labels
    l2: PerImage
    linf: PerImage
    normalised_l2: PerImage
    ssim: PerImage
    clean_margin: PerImage
    adv_margin: PerImage
    clean_draws: Draws
    adv_draws: Draws
    clean_detection: DetectionScore
    adv_detection: DetectionScore
    seconds: float
    forwards: int

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.y)

    @property
    def robust(self) -> Mask:
        """Images classified correctly before the attack, and correctly or rejected after it."""
        return (self.victim_clean == self.y) & _right_or_rejected(self.victim_adv, self.y)

    @property
    def rejected(self) -> tuple[float, float] | None:
        """Shares of clean and of attacked images that were rejected; ``None`` if none was."""
        clean, adv = self.victim_clean == REJECTED, self.victim_adv == REJECTED
        if not (clean | adv).any():
            return None
        return float(clean.double().mean()), float(adv.double().mean())

    @property
    def auc(self) -> float | None:
        """Area under the ROC curve of the detector; ``None`` without a detector.

        Equal to the probability that an attacked image has a higher detection score than a clean
        image, where a tie counts one half: Hanley, McNeil, "The Meaning and Use of the Area under a
        Receiver Operating Characteristic (ROC) Curve", 1982,
        https://doi.org/10.1148/radiology.143.1.7063747.
        """
        if self.clean_detection.shape[1] == 0:
            return None
        clean, adv = self.clean_detection.flatten().sort().values, self.adv_detection.flatten()
        below, upto = (torch.searchsorted(clean, adv, right=right) for right in (False, True))
        return float((below + upto).double().mean() / (2 * len(clean)))

    @property
    def acc(self) -> float:
        """Clean accuracy: share of clean images that the victim classifies correctly."""
        return float((self.victim_clean == self.y).double().mean())

    @property
    def robust_acc(self) -> float:
        """Robust accuracy: share of robust images among all images."""
        return float(self.robust.double().mean())

    @property
    def interval(self) -> Interval:
        """95 % Wilson interval of the robust accuracy."""
        return wilson(int(self.robust.sum()), self.images)

    @property
    def asr(self) -> float | None:
        """Attack success rate on the bare classifier.

        Among the images that it classifies correctly, the share that it misclassifies after the
        attack; ``None`` if it classifies no image correctly.
        """
        right = self.bare_clean == self.y
        return _share((self.bare_adv != self.y)[right])

    @property
    def dsr(self) -> float | None:
        """Defence success rate.

        Among the successes of :attr:`asr`, the share that the victim classifies correctly or
        rejects; ``None`` if there is no success.
        """
        success = (self.bare_clean == self.y) & (self.bare_adv != self.y)
        return _share(_right_or_rejected(self.victim_adv, self.y)[success])

    @property
    def repeated(self) -> dict[Statistic, tuple[float, float]] | None:
        """Accuracy of a random victim by several statistics; ``None`` for other victims.

        Each statistic is computed on clean images, as a control, and on attacked images.
        ``one_shot`` is the mean accuracy of all predictions; the others are shares of images:
        ``worst_of``, with only correct predictions; ``vote``, with a correct majority;
        ``fixed_seed``, with a correct deployed prediction.
        """
        if self.clean_draws.shape[1] == 0:
            return None
        clean = self.clean_draws == self.y[:, None]
        adv = _right_or_rejected(self.adv_draws, self.y[:, None])
        right: dict[Statistic, tuple[Tensor, Tensor]] = {
            "one_shot": (clean, adv),
            "worst_of": (clean.all(1), adv.all(1)),
            "vote": (self.victim_clean == self.y, _right_or_rejected(self.victim_adv, self.y)),
            "fixed_seed": (clean[:, 0], adv[:, 0]),
        }
        return {
            name: (float(before.double().mean()), float(after.double().mean()))
            for name, (before, after) in right.items()
        }

    @property
    def broken(self) -> Mask:
        """Images classified correctly before the attack, and not robust."""
        return (self.victim_clean == self.y) & ~self.robust

    @property
    def not_finite(self) -> tuple[int, int]:
        """Numbers of clean and of attacked images with outputs that are not finite."""
        clean, adv = self.victim_clean == NO_CLASS, self.victim_adv == NO_CLASS
        return int(clean.sum()), int(adv.sum())

    def size(self, threat: ThreatModel) -> PerImage | None:
        """Size of each perturbation in the norm of ``threat``; ``None`` if it was not measured."""
        return {"Linf": self.linf, "L2": self.l2}.get(threat.norm)

    def curve(self, threat: ThreatModel) -> list[tuple[float, float]] | None:
        """Distances from 0 to the budget, each with the robust accuracy at that distance.

        The robust accuracy at a distance is the share of all images that are classified correctly
        before the attack and not broken within the distance. If the attack does not search for the
        smallest perturbation, the curve is only an upper bound. ``None`` if sizes in this norm were
        not measured.
        """
        size = self.size(threat)
        if size is None:
            return None
        # Rounding may take an image slightly past the budget.
        broken_at = torch.where(self.robust, math.inf, size.clamp(max=threat.eps))
        right = self.victim_clean == self.y
        distances = [threat.eps * (k / CURVE_STEPS) for k in range(CURVE_STEPS + 1)]
        return [(d, float((right & (broken_at > d)).double().mean())) for d in distances]

    def broken_within(self, threat: ThreatModel) -> Mask:
        """Images that are broken by a perturbation inside ``threat``, whatever was attacked."""
        size = self.size(threat)
        return self.broken if size is None else self.broken & (size <= threat.eps + ROUNDING)

    def also_broken(self, other: Score, threat: ThreatModel) -> Score:
        """This score, with images broken where ``other`` breaks them inside ``threat``."""
        shared = min(self.images, other.images)
        same = self.ids[:shared] == other.ids[:shared]
        newly = self.robust[:shared] & other.broken_within(threat)[:shared] & same
        if not newly.any():
            return self
        where = torch.zeros_like(self.robust)
        where[:shared] = newly
        tensors = {name: getattr(other, name)[:shared][newly] for name in TENSORS}
        return self.updated(where, Score(**tensors, seconds=self.seconds, forwards=self.forwards))

    def updated(self, where: Mask, part: Score) -> Score:
        """This score with the images ``where`` replaced by the images of ``part``, at its cost."""
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
        """The score over the images of both."""
        return _combined(self, other, lambda a, b: torch.cat([a, b]))


TENSORS = tuple(f.name for f in fields(Score) if f.name not in ("seconds", "forwards"))
"""The fields of a score that hold one row for each image."""


def worst_case(scores: Sequence[Score]) -> Score:
    """The per-image worst case, over the first images that all scores share.

    Each image comes from the first score in which it is not robust, else from the last score.

    Raises:
        ValueError: There are no scores, or their first images differ.
    """
    if not scores:
        raise ValueError("a worst case needs at least one score")
    shared = min(score.images for score in scores)
    scores = [score.first(shared) for score in scores]
    if any(not torch.equal(score.ids, scores[0].ids) for score in scores):
        raise ValueError("a worst case needs scores over the same images, in the same order")

    def worse(first: Score, second: Score) -> Score:
        def pick(a: Tensor, b: Tensor) -> Tensor:
            robust = first.robust.reshape(-1, *[1] * (a.ndim - 1))
            return torch.where(robust, b, a)

        return _combined(first, second, pick)

    return reduce(worse, scores)


def _combined(first: Score, second: Score, merge: Callable[[Tensor, Tensor], Tensor]) -> Score:
    """The score of two scores' merged tensors, at the cost of both."""
    return Score(
        **{name: merge(getattr(first, name), getattr(second, name)) for name in TENSORS},
        seconds=first.seconds + second.seconds,
        forwards=first.forwards + second.forwards,
    )


def _right_or_rejected(predictions: Tensor, y: Tensor) -> Tensor:
    """True for predictions on attacked images that are correct: the true class, or rejection."""
    return (predictions == y) | (predictions == REJECTED)


def _share(mask: Mask) -> float | None:
    """The share of true values; ``None`` if there are no values."""
    return float(mask.double().mean()) if len(mask) else None
