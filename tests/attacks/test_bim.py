"""BIM: its steps by hand."""

from __future__ import annotations

import pytest
import torch

from fixtures.models import Island
from spearshield.attacks.bim import BIM
from spearshield.threat import L2, Linf

X = torch.tensor([[[[0.5, 0.5]]]])
Y = torch.tensor([0])


def linear(x):
    """Two pixels with weights 3 and -4; the loss of class 0 increases along the weights."""
    score = (x.flatten(1) * torch.tensor([3.0, -4.0])).sum(1)
    return torch.stack([-score, score], 1)


def test_linf_steps_are_clipped_to_the_ball():
    one = BIM(Linf(0.3), steps=1, step_size=0.2)(linear, X, Y)
    two = BIM(Linf(0.3), steps=2, step_size=0.2)(linear, X, Y)
    torch.testing.assert_close(one, torch.tensor([[[[0.7, 0.3]]]]))
    torch.testing.assert_close(two, torch.tensor([[[[0.8, 0.2]]]]))


def test_l2_steps_are_clipped_to_the_ball():
    one = BIM(L2(0.3), steps=1, step_size=0.2)(linear, X, Y)
    two = BIM(L2(0.3), steps=2, step_size=0.2)(linear, X, Y)
    torch.testing.assert_close(one, torch.tensor([[[[0.62, 0.34]]]]))
    torch.testing.assert_close(two, torch.tensor([[[[0.68, 0.26]]]]))


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_default_steps_exactly_reach_the_boundary(steps):
    x_adv = BIM(Linf(0.3), steps=steps)(linear, X, Y)
    torch.testing.assert_close(x_adv, torch.tensor([[[[0.8, 0.2]]]]))


def test_takes_every_step_and_returns_the_last_iterate():
    # From 0.5 the first step ends on the island at 0.6, the second beyond it at 0.7.
    x_adv = BIM(Linf(0.3), steps=2, step_size=0.1)(Island(), torch.full((1, 1, 1, 1), 0.5), Y)
    torch.testing.assert_close(x_adv, torch.full((1, 1, 1, 1), 0.7))


@pytest.mark.parametrize("field", [{"steps": 0}, {"step_size": 0.0}, {"step_size": float("nan")}])
def test_arguments_out_of_range_raise(field):
    with pytest.raises(ValueError, match=f"{next(iter(field))} must be"):
        BIM(Linf(0.3), **field)
