"""RAND+FGSM: its two steps on a linear model, whose gradient has the direction of the weight."""

from __future__ import annotations

import pytest
import torch

from fixtures.models import HalfSpace
from spearshield.attacks.rand_fgsm import RandFGSM
from spearshield.rng import Rng
from spearshield.threat import L2, Linf

GREY = torch.full((64, 1, 4, 4), 0.5)
Y = torch.zeros(64, dtype=torch.long)


def starts(attack, x):
    """The points at which the attack computes the gradient."""
    seen = []
    model = HalfSpace()
    attack(lambda x: seen.append(x.detach()) or model(x), x, Y[: len(x)])
    return seen[0]


def test_linf_is_a_random_sign_then_the_sign_of_the_gradient():
    model, rng = HalfSpace(), Rng.of_batch(5, len(GREY))
    x_adv = RandFGSM(Linf(0.3), alpha=0.05)(model, GREY, Y, rng=rng)
    noise = rng.normal((1, 4, 4)).sign()
    torch.testing.assert_close(x_adv, GREY + 0.05 * noise + 0.25 * model.w.detach().sign())


def test_l2_splits_the_budget_in_the_same_way():
    model, w = HalfSpace(), HalfSpace().w.detach()
    attack = RandFGSM(L2(0.3), alpha=0.1)
    start, x_adv = starts(attack, GREY), attack(model, GREY, Y)
    torch.testing.assert_close(attack.threat.distance(start, GREY), torch.full((64,), 0.1))
    torch.testing.assert_close(x_adv, start + 0.2 * w / w.norm())
    assert (start - GREY).mean(0).abs().max() < 0.015  # 0.1 / sqrt(16 * 64) is a standard error


@pytest.mark.parametrize("threat", [Linf(0.3), L2(0.3)], ids=str)
def test_by_default_a_sixth_of_the_budget_is_random(threat):
    size = threat.distance(starts(RandFGSM(threat), GREY), GREY)
    torch.testing.assert_close(size, torch.full_like(size, 0.05))


def test_the_random_step_is_clipped_to_the_pixel_range():
    start = starts(RandFGSM(Linf(0.3)), torch.ones(8, 1, 4, 4))
    assert start.max() == 1 and 0.1 < (start == 1).float().mean() < 0.9


@pytest.mark.parametrize("alpha", [0.0, 0.3, -0.1, float("nan")])
def test_alpha_must_be_between_0_and_eps(alpha):
    with pytest.raises(ValueError, match=r"alpha must be (above 0|below 0\.3), got"):
        RandFGSM(Linf(0.3), alpha=alpha)
