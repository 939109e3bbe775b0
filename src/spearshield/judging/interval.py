"""Confidence intervals of shares."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval of a share."""

    low: float
    high: float


def wilson(hits: int | float, trials: int | float) -> Interval:
    """The 95 % score interval of a binomial share; [0, 1] if there are no trials.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927,
    https://doi.org/10.1080/01621459.1927.10502953.

    Args:
        trials: The number of trials, or an effective number, which need not be whole.
    """
    if trials == 0:
        return Interval(0.0, 1.0)
    share, z2 = hits / trials, Z95**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    spread = share * (1 - share) / trials + z2 / (4 * trials**2)
    half = Z95 / (1 + z2 / trials) * math.sqrt(spread)
    # Exact at both ends, where rounding would leave 2e-17 or 1 - 1e-16.
    low = centre - half if hits > 0 else 0.0
    high = centre + half if hits < trials else 1.0
    return Interval(low, high)
