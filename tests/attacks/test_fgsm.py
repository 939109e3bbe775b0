"""FGSM: its equation on a linear model, whose gradient has the direction of the weight."""

from __future__ import annotations

import torch

from fixtures.models import HalfSpace
from spearshield.attacks.fgsm import FGSM
from spearshield.threat import L2, Linf

GREY = torch.full((2, 1, 4, 4), 0.5)
Y = torch.tensor([0, 1])
AWAY = torch.tensor([1.0, -1.0])[:, None, None, None]  # the loss of class 0 increases along w


def test_linf_is_a_step_of_eps_along_the_sign():
    model = HalfSpace()
    x_adv = FGSM(Linf(0.1))(model, GREY, Y)
    torch.testing.assert_close(x_adv, GREY + 0.1 * AWAY * model.w.detach().sign())


def test_l2_is_a_step_of_eps_along_the_normalised_gradient():
    model = HalfSpace()
    x_adv = FGSM(L2(0.3))(model, GREY, Y)
    w = model.w.detach()
    torch.testing.assert_close(x_adv, GREY + 0.3 * AWAY * w / w.norm())


def test_a_pixel_at_the_limit_does_not_leave_the_range():
    model = HalfSpace()
    white = torch.ones(1, 1, 4, 4)
    x_adv = FGSM(Linf(0.1))(model, white, Y[:1])
    expected = torch.where(model.w.detach() > 0, 1.0, 0.9)
    torch.testing.assert_close(x_adv[0], expected)


def test_an_image_without_gradient_is_returned_unchanged():
    x_adv = FGSM(L2(0.3))(lambda x: torch.zeros(len(x), 2) + 0 * x.sum(), GREY, Y)
    assert torch.equal(x_adv, GREY)
