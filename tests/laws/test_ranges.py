"""Range checks accept values inside, and reject values outside and NaN."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from spearshield.ranges import require


@dataclass
class Settings:
    n: float | None


@dataclass
class Choice:
    loss: str


@pytest.mark.parametrize(
    ("bounds", "good", "bad", "message"),
    [
        ({"at_least": 1}, (1, 2), (0, float("nan")), "n must be at least 1, got"),
        ({"above": 0}, (0.1,), (0, -1, float("nan")), "n must be above 0, got"),
        ({"at_most": 1}, (1, -5), (1.5, float("nan")), "n must be at most 1, got"),
        ({"below": 1}, (0.9,), (1, float("nan")), "n must be below 1, got"),
    ],
)
def test_bounds(bounds, good, bad, message):
    for number in (*good, None):
        require(Settings(number), "n", **bounds)
    for number in bad:
        with pytest.raises(ValueError, match=message):
            require(Settings(number), "n", **bounds)


def test_choices():
    require(Choice("dlr"), "loss", one_of=("dlr", "margin"))
    with pytest.raises(ValueError, match="loss must be one of dlr, margin, got 'hinge'"):
        require(Choice("hinge"), "loss", one_of=("dlr", "margin"))
