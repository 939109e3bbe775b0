"""Latent search: on a generator with a known range."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fixtures.models import HalfSpace
from spearshield.adversary import misclassified
from spearshield.attacks.latent_search import LatentSearch
from spearshield.attacks.pgd import PGD
from spearshield.method import Defended
from spearshield.rng import Rng
from spearshield.threat import L2, Linf
from spearshield.views import InRange

SHAPE = (1, 4, 4)
ALONG = torch.linspace(0.2, 1.0, 16).reshape(SHAPE)
"""Direction of the line that is the range of the generator."""


class Line(nn.Module):
    """A generator: grey plus a multiple of ``ALONG``."""

    def forward(self, z):
        return 0.5 + z[:, :, None, None] * ALONG


class Nearest(nn.Module):
    """A purifier: the nearest image of the line, without a gradient."""

    def __init__(self):
        super().__init__()
        self.G = Line()

    def search(self, x, rng):
        z = ((x.detach() - 0.5) * ALONG).flatten(1).sum(1, keepdim=True) / ALONG.square().sum()
        return z, (self.G(z) - x.detach()).square().flatten(1).mean(1)

    def generate(self, z):
        return self.G(z)

    def forward(self, x):
        return self.G(self.search(x, None)[0]).clamp(0, 1) + 0 * x


def victim():
    return Defended(Nearest(), HalfSpace(SHAPE)).eval()


def images(z, n=4):
    return Line()(torch.full((n, 1), z))


def margin_per_z():
    return float((HalfSpace(SHAPE).w.detach() * ALONG).sum())


@pytest.mark.parametrize("threat", [L2(0.4), Linf(0.15)], ids=str)
def test_breaks_a_purifier_that_hides_its_gradient(threat):
    # The class changes at z = 0, where the image is grey.
    reach = threat.eps / float(threat.distance(images(1.0, 1), images(0.0, 1)))
    x = images(-0.8 * reach)
    y = victim()(x).argmax(1)
    x_adv = LatentSearch(threat, steps=150)(InRange()(victim()), x, y)
    assert threat.contains(x_adv, x).all()
    assert misclassified(victim(), x_adv, y).all()
    by_gradient = PGD(threat, random_start=False)(victim(), x, y)
    assert not misclassified(victim(), by_gradient, y).any()


def test_finds_nothing_beyond_the_budget():
    threat = L2(0.4)
    reach = threat.eps / float(ALONG.flatten().norm())
    x = images(-1.2 * reach)
    y = victim()(x).argmax(1)
    assert not misclassified(victim(), LatentSearch(threat, steps=150)(victim(), x, y), y).any()


def test_follows_the_boundary_of_the_budget():
    threat, x = L2(0.4), images(-0.15)
    y = victim()(x).argmax(1)
    x_adv = LatentSearch(threat, confidence=1e3, restarts=1)._search(
        victim(), x, y, Rng.of_batch(0, len(x))
    )
    distance = threat.distance(x_adv, x)
    assert (distance > 0.9 * threat.eps).all()
    # The projection into an L2 ball scales the perturbation, so the result is still on the line.
    z, error = Nearest().search(x_adv, None)
    assert error.max() < 1e-6 and (z > 0).all()


@pytest.mark.parametrize("purifier", [None, nn.Identity()], ids=["bare", "identity"])
def test_a_victim_without_a_generator_is_refused(purifier):
    model = HalfSpace() if purifier is None else Defended(purifier, HalfSpace())
    x, y = HalfSpace().images(4, L2(0.3), 0.25)
    with pytest.raises(ValueError, match="purifier has a generator"):
        LatentSearch(L2(0.3))(model, x, y)


def test_an_image_misclassified_from_the_start_is_returned_unchanged():
    x = images(-0.1)
    y = 1 - victim()(x).argmax(1)
    assert torch.equal(LatentSearch(L2(0.4))(victim(), x, y), x)


def test_the_view_applies_to_purifiers_that_generate():
    assert InRange().applies_to(victim())
    assert not InRange().applies_to(Defended(nn.Identity(), HalfSpace()))
    assert str(InRange()) == "in_range"


@pytest.mark.parametrize(
    "bad", [{"steps": 0}, {"restarts": 0}, {"lr": 0.0}, {"confidence": -1.0}], ids=str
)
def test_arguments_out_of_range_raise(bad):
    with pytest.raises(ValueError, match="got"):
        LatentSearch(L2(0.4), **bad)
