"""FGSM's equation on a linear model, where the gradient's direction is the weight."""

from __future__ import annotations

import torch

from analytic import HalfSpace
from spearshield.attacks.fgsm import FGSM
from spearshield.threat import L2, Linf

GREY = torch.full((2, 1, 4, 4), 0.5)
Y = torch.tensor([0, 1])
AWAY = torch.tensor([1.0, -1.0])[:, None, None, None]  # class 0 is left up the weight


def test_linf_steps_eps_along_the_sign():
    model = HalfSpace()
    x_adv = FGSM(Linf(0.1))(model, GREY, Y)
    torch.testing.assert_close(x_adv, GREY + 0.1 * AWAY * model.w.detach().sign())


def test_l2_steps_eps_along_the_normalised_gradient():
    model = HalfSpace()
    x_adv = FGSM(L2(0.3))(model, GREY, Y)
    w = model.w.detach()
    torch.testing.assert_close(x_adv, GREY + 0.3 * AWAY * w / w.norm())


def test_a_pixel_at_the_edge_stays():
    model = HalfSpace()
    white = torch.ones(1, 1, 4, 4)
    x_adv = FGSM(Linf(0.1))(model, white, Y[:1])
    expected = torch.where(model.w.detach() > 0, 1.0, 0.9)
    torch.testing.assert_close(x_adv[0], expected)


def test_without_a_gradient_nothing_moves():
    x_adv = FGSM(L2(0.3))(lambda x: torch.zeros(len(x), 2) + 0 * x.sum(), GREY, Y)
    assert torch.equal(x_adv, GREY)
