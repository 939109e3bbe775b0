"""Means of several rates on the same images, with intervals over images.

An image may count in several of the rates, so its hits are not independent. Each image has an
influence on the mean, and the sum of their squares is the variance of the mean. Pseudo-images keep
the variance above zero where every image agrees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spearshield.judging.interval import Z95, Interval, wilson


@dataclass(frozen=True, eq=False)
class MeanRate:
    """The mean of several rates, each of them the share of hits among its trials.

    Args:
        hits: True for each image that is a hit of a rate; a hit is a trial.
        trials: True for each image that counts in a rate; at least one for each rate.
    """

    hits: Bool[Tensor, "rates n"]
    trials: Bool[Tensor, "rates n"]

    @property
    def value(self) -> float:
        """The mean of the rates, from 0 to 1."""
        return float((self.hits.sum(1).double() / self.trials.sum(1)).mean())

    @property
    def interval(self) -> Interval:
        """The 95 % Wilson interval at the effective number of images; of one rate, the usual one.

        The effective number is the number of independent trials with the variance of this mean:
        Korn, Graubard, "Confidence Intervals for Proportions With Small Expected Number of Positive
        Counts Estimated From Survey Data", 1998. The variance is estimated with half of the squared
        normal quantile of pseudo-images that are hits of every rate, and as many that are of none,
        which Wilson's interval contains as well.
        """
        share, influence = self._smoothed((0.0, 1.0), Z95**2 / 2)
        size = share * (1 - share) / float(influence.square().sum()) - Z95**2
        return wilson(self.value * size, size)

    def lead(self, other: MeanRate) -> Interval:
        """The 95 % interval of this mean minus another one on the same images, from -1 to 1.

        One half of an image is added to each of the four cells (hit of both, of one, of the other,
        of none): Agresti, Min, "Simple Improved Confidence Intervals for Comparing Matched
        Proportions", 2005, https://doi.org/10.1002/sim.1781.
        """
        mine, of_mine = self._smoothed((0.0, 0.0, 1.0, 1.0), 0.5)
        its, of_its = other._smoothed((0.0, 1.0, 0.0, 1.0), 0.5)
        half = Z95 * math.sqrt(float((of_mine - of_its).square().sum()))
        return Interval(max(mine - its - half, -1.0), min(mine - its + half, 1.0))

    def _smoothed(self, more: Sequence[float], weight: float) -> tuple[float, Float[Tensor, " m"]]:
        """The mean with pseudo-images, and the influence of each image on it.

        Args:
            more: 1 for each pseudo-image that is a hit of every rate, 0 for one that is of none.
            weight: The weight of a pseudo-image; images have weight 1.
        """
        pseudo = torch.tensor(more, dtype=torch.float64).expand(len(self.hits), -1)
        hits = torch.cat([self.hits.double(), pseudo], 1)
        trials = torch.cat([self.trials.double(), torch.ones_like(pseudo)], 1)
        weights = torch.ones(hits.shape[1], dtype=torch.float64)
        weights[-len(more) :] = weight
        sizes = trials @ weights
        rates = (hits @ weights) / sizes
        influence = (trials * (hits - rates[:, None]) / sizes[:, None]).mean(0)
        return float(rates.mean()), influence * weights.sqrt()
