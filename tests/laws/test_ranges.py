"""A range check accepts what is inside, refuses what is outside, and refuses NaN."""

from dataclasses import dataclass

import pytest

from spearshield.ranges import require


@dataclass
class Settings:
    n: float | None


@pytest.mark.parametrize(
    ("bounds", "good", "bad", "said"),
    [
        ({"at_least": 1}, (1, 2), (0, float("nan")), "n must be at least 1, got"),
        ({"above": 0}, (0.1,), (0, -1, float("nan")), "n must be above 0, got"),
        ({"at_most": 1}, (1, -5), (1.5, float("nan")), "n must be at most 1, got"),
        ({"below": 1}, (0.9,), (1, float("nan")), "n must be below 1, got"),
    ],
)
def test_bounds(bounds, good, bad, said):
    for number in (*good, None):
        require(Settings(number), "n", **bounds)
    for number in bad:
        with pytest.raises(ValueError, match=said):
            require(Settings(number), "n", **bounds)
