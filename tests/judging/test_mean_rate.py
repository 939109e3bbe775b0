"""Means of rates: their intervals by hand, and how often these contain the true value."""

from __future__ import annotations

import math

import pytest
import torch

from mutations import fails_under
from spearshield.judging.interval import Z95, Interval, wilson
from spearshield.judging.mean_rate import MeanRate

SMOOTHED = MeanRate._smoothed


def rate(*hits, trials=None):
    found = torch.tensor(hits, dtype=torch.bool)
    return MeanRate(found, torch.ones_like(found) if trials is None else torch.tensor(trials))


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (1, 1), (0, 20), (3, 20), (20, 20)])
def test_one_rate_has_the_wilson_interval(hits, count):
    """Also where only some of the images are trials, or several rates agree."""
    expected = wilson(hits, count)
    row = [i < hits for i in range(count)]
    more = rate([*row, False], trials=[[True] * count + [False]])
    for one in (rate(row), more, rate(row, row, row)):
        assert one.value == hits / count
        assert one.interval.low == pytest.approx(expected.low, abs=1e-9)
        assert one.interval.high == pytest.approx(expected.high, abs=1e-9)


def test_rates_that_differ_count_as_more_images():
    odd, even = [i % 2 == 1 for i in range(40)], [i % 2 == 0 for i in range(20)] + [False] * 20
    both = rate(odd, even)
    assert both.value == 0.375
    assert both.interval.high < wilson(15, 40).high


@fails_under(
    "no pseudo-images",
    (MeanRate, "_smoothed", lambda self, more, weight: SMOOTHED(self, more, 1e-9)),
)
def test_the_lead_is_the_interval_of_agresti_and_min_by_hand():
    """Cells: 2 of both, 5 of the first alone, 1 of the second alone, 4 of none."""
    first = rate([True] * 2 + [True] * 5 + [False] * 5)
    second = rate([True] * 2 + [False] * 5 + [True] + [False] * 4)
    centre, total = (5.5 - 1.5) / 14, 14
    half = Z95 * math.sqrt((5.5 + 1.5) - (5.5 - 1.5) ** 2 / total) / total
    found = first.lead(second)
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half))


def test_the_lead_is_never_certain():
    assert rate([True]).lead(rate([False])).low < 0
    assert rate([True]).lead(rate([False])).high == 1
    certain = rate([True] * 20).lead(rate([False] * 20))
    assert 0.7 < certain.low < 0.8 and certain.high == 1
    equal = rate([False] * 20).lead(rate([False] * 20))
    assert -equal.low == equal.high == pytest.approx(Z95 / 22)


def test_95_percent_of_intervals_contain_the_true_value():
    """Images with hits of two rates each, which agree for some; and leads between two means."""
    generator = torch.Generator().manual_seed(0)
    trials = torch.ones(2, 30, dtype=torch.bool)

    def drawn(shared, share):
        own = torch.rand(2, 30, generator=generator) < share
        same = torch.rand(30, generator=generator) < 0.5
        return MeanRate(torch.where(same, shared < share, own), trials)

    held = {"mean": 0, "lead": 0}
    for _ in range(1_000):
        shared = torch.rand(30, generator=generator)
        a, b = drawn(shared, 0.1), drawn(shared, 0.3)
        held["mean"] += _contains(a.interval, 0.1)
        held["lead"] += _contains(b.lead(a), 0.2)
    assert 0.93 < held["mean"] / 1_000 < 0.985 and 0.93 < held["lead"] / 1_000 < 0.985


def _contains(interval: Interval, value: float) -> bool:
    return interval.low <= value <= interval.high
