"""Carlini and Wagner's attack: exact on a half-space, and its parts by hand."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import pytest
import torch

from fixtures.models import HalfSpace
from spearshield.adversary import misclassified
from spearshield.attacks.carlini_wagner import CarliniWagner
from spearshield.losses.margin import margin_loss
from spearshield.threat import L2, Linf

ATTACK = CarliniWagner(L2(1.0), steps=80, searches=7, initial_c=0.1, lr=0.02)


def test_finds_the_exact_distance_of_each_image():
    model = HalfSpace()
    batches = [model.images(4, ATTACK.threat, d) for d in (0.05, 0.1, 0.5)]
    x, y = (torch.cat(part) for part in zip(*batches, strict=True))
    x_adv = ATTACK(model, x, y)
    exact = model.distance(x, ATTACK.threat).detach()
    assert misclassified(model, x_adv, y).all()
    torch.testing.assert_close(ATTACK.threat.distance(x_adv, x), exact, rtol=0.02, atol=0)


def test_kappa_is_the_required_lead_of_the_other_logit():
    # The logits differ by twice the margin: a lead of 0.6 is a margin of 0.3 beyond the plane.
    model = HalfSpace()
    x, y = model.images(4, ATTACK.threat, 0.2)
    x_adv = replace(ATTACK, kappa=0.6)(model, x, y)
    exact = (0.2 + 0.3 / model.w.norm()).detach().expand(4)
    assert (margin_loss(model(x_adv), y) >= 0.6).all()
    torch.testing.assert_close(ATTACK.threat.distance(x_adv, x), exact, rtol=0.02, atol=0)


def test_adam_works_in_tanh_space():
    # Adam's first step is lr against the sign of the gradient, from w = 0 for grey pixels. A search
    # without success returns the last evaluated iterate.
    model = HalfSpace()
    x, y = torch.full((1, 1, 4, 4), 0.5), torch.tensor([1])
    model.b.data -= 5  # class 1, far from the plane
    x_adv = CarliniWagner(L2(4.0), steps=2, searches=1, initial_c=1.0, lr=0.1)(model, x, y)
    expected = (torch.tanh(-0.1 * model.w.detach().sign()) + 1) / 2
    torch.testing.assert_close(x_adv[0], expected)


def test_c_grows_tenfold_until_success_and_is_then_bisected():
    tried = []

    def minimise(self, model, x, y, c):
        """Succeeds from c = 0.07 for the first image, never for the second."""
        tried.append(c.tolist())
        reached = c >= torch.tensor([0.07, 1e9])
        return x, torch.where(reached, c, torch.inf)

    attack = CarliniWagner(L2(1.0), searches=6)
    x = torch.full((2, 1, 4, 4), 0.5)
    with mock.patch.object(CarliniWagner, "_minimise", minimise):
        attack(HalfSpace(), x, torch.tensor([0, 0]))
    first, second = zip(*tried, strict=True)
    assert first == pytest.approx([0.001, 0.01, 0.1, 0.055, 0.0775, 0.06625])
    assert second == pytest.approx([10.0**k for k in range(-3, 3)])


def test_the_nearest_success_of_all_searches_is_returned():
    found = [(0.2, 0.2), (0.1, torch.inf), (0.3, 0.3)]  # shift and distance; the second failed
    with mock.patch.object(
        CarliniWagner,
        "_minimise",
        side_effect=[(torch.full((1, 1, 1, 1), 0.5 + s), torch.tensor([d])) for s, d in found],
    ):
        x = torch.full((1, 1, 1, 1), 0.5)
        x_adv = replace(ATTACK, searches=3)(HalfSpace(), x, torch.tensor([0]))
    torch.testing.assert_close(x_adv, torch.full_like(x, 0.7))


def test_black_and_white_pixels_can_move():
    model = HalfSpace()
    y = torch.tensor([0])
    x = torch.where(model.w > 0, 0.0, 1.0).detach()[None]  # the corner farthest inside class 0
    attack = CarliniWagner(L2(4.0), steps=200, searches=4, initial_c=1.0, lr=0.1)
    x_adv = attack(model, x, y)
    assert misclassified(model, x_adv, y).all()
    torch.testing.assert_close(
        L2(4.0).distance(x_adv, x), model.distance(x, L2(4.0)).detach(), rtol=0.1, atol=0
    )


def test_farther_than_eps_it_is_projected():
    model = HalfSpace()
    x, y = model.images(4, L2(0.1), 0.3)
    x_adv = replace(ATTACK, threat=L2(0.1))(model, x, y)
    torch.testing.assert_close(L2(0.1).distance(x_adv, x), torch.full((4,), 0.1))
    left = model.distance(x_adv, L2(0.1)).detach()
    torch.testing.assert_close(left, torch.full((4,), 0.2), rtol=0.02, atol=0)


def test_an_image_misclassified_from_the_start_hardly_moves():
    model = HalfSpace()
    x, y = model.images(4, L2(0.1), 0.3)
    assert (ATTACK.threat.distance(ATTACK(model, x, 1 - y), x) < 1e-5).all()


def test_another_norm_raises():
    with pytest.raises(ValueError, match=r"L2\(\.\.\.\) or --threat L2, not Linf 0\.1"):
        CarliniWagner(Linf(0.1))


@pytest.mark.parametrize(
    "field", [{"steps": 0}, {"searches": 0}, {"lr": 0.0}, {"initial_c": 0.0}, {"kappa": -1.0}]
)
def test_arguments_out_of_range_raise(field):
    with pytest.raises(ValueError, match=f"{next(iter(field))}.* must"):
        CarliniWagner(L2(0.1), **field)
