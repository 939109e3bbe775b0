"""Latent search: in a range known by heart, and only there."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from analytic import HalfSpace
from spearshield.attack import fooled
from spearshield.attacks.latent_search import LatentSearch
from spearshield.attacks.pgd import PGD
from spearshield.method import Defended
from spearshield.rng import Rng
from spearshield.threat import L2, Linf
from spearshield.views import InRange

SHAPE = (1, 4, 4)
ALONG = torch.linspace(0.2, 1.0, 16).reshape(SHAPE)
"""The direction of the line that the generator makes."""


class Line(nn.Module):
    """Grey, and something of ``ALONG``."""

    def forward(self, z):
        return 0.5 + z[:, :, None, None] * ALONG


class Nearest(nn.Module):
    """The nearest image of the line; no gradient of the image arrives at the answer."""

    def __init__(self):
        super().__init__()
        self.G = Line()

    def search(self, x, rng):
        z = ((x.detach() - 0.5) * ALONG).flatten(1).sum(1, keepdim=True) / ALONG.square().sum()
        return z, (self.G(z) - x.detach()).square().flatten(1).mean(1)

    def forward(self, x):
        return self.G(self.search(x, None)[0]).clamp(0, 1) + 0 * x


def victim():
    return Defended(Nearest(), HalfSpace(SHAPE)).eval()


def images(z, n=4):
    return Line()(torch.full((n, 1), z))


def margin_per_z():
    return float((HalfSpace(SHAPE).w.detach() * ALONG).sum())


@pytest.mark.parametrize("threat", [L2(0.4), Linf(0.15)], ids=str)
def test_finds_what_the_projection_hides_from_the_gradient(threat):
    # The class changes at z = 0, where the line goes through mid-grey.
    reach = threat.eps / float(threat.distance(images(1.0, 1), images(0.0, 1)))
    x = images(-0.8 * reach)
    y = victim()(x).argmax(1)
    x_adv = LatentSearch(threat, steps=150)(InRange()(victim()), x, y)
    assert threat.contains(x_adv, x).all()
    assert fooled(victim(), x_adv, y).all()
    stuck = PGD(threat, random_start=False)(victim(), x, y)
    assert not fooled(victim(), stuck, y).any()


def test_finds_nothing_beyond_the_budget():
    threat = L2(0.4)
    reach = threat.eps / float(ALONG.flatten().norm())
    x = images(-1.2 * reach)
    y = victim()(x).argmax(1)
    assert not fooled(victim(), LatentSearch(threat, steps=150)(victim(), x, y), y).any()


def test_follows_the_border_of_the_budget():
    threat, x = L2(0.4), images(-0.15)
    y = victim()(x).argmax(1)
    x_adv = LatentSearch(threat, confidence=1e3, restarts=1)._search(
        victim(), x, y, Rng.of_batch(0, len(x))
    )
    distance = threat.distance(x_adv, x)
    assert (distance > 0.9 * threat.eps).all()
    # On the line up to what the projection into the budget moved it: nowhere, for L2 is a scaling.
    z, error = Nearest().search(x_adv, None)
    assert error.max() < 1e-6 and (z > 0).all()


def test_a_model_without_a_generator_is_searched_among_all_images():
    model = HalfSpace()
    x, y = model.images(4, L2(0.3), 0.25)
    assert fooled(model, LatentSearch(L2(0.3), steps=150)(model, x, y), y).all()


def test_an_image_that_is_wrong_already_comes_back_unchanged():
    x = images(-0.1)
    y = 1 - victim()(x).argmax(1)
    assert torch.equal(LatentSearch(L2(0.4))(victim(), x, y), x)


def test_the_view_suits_what_generates():
    assert InRange().applies_to(Nearest()) and not InRange().applies_to(nn.Identity())
    assert str(InRange()) == "in_range"


@pytest.mark.parametrize(
    "bad", [{"steps": 0}, {"restarts": 0}, {"lr": 0.0}, {"confidence": -1.0}], ids=str
)
def test_numbers_that_mean_nothing_are_refused(bad):
    with pytest.raises(ValueError, match="got"):
        LatentSearch(L2(0.4), **bad)
