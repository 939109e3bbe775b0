"""Guided search: APGD, then random search from its result."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from fixtures.models import HalfSpace
from mutations import fails_under
from spearshield.adversary import misclassified
from spearshield.attacks import guided_search
from spearshield.attacks.apgd import APGD
from spearshield.attacks.guided_search import GuidedSearch
from spearshield.attacks.square import Square
from spearshield.rng import Rng
from spearshield.threat import Linf

EPS = 0.2


def staircase(x):
    """A half-space of twelve pixels of alternating sign, plus a step function of four more.

    The gradient optimises the twelve pixels, where windows rarely succeed, and ignores the four.
    """
    x = x.flatten(1)
    steps = (x[:, 12:] > 0.5 + EPS / 2).to(x).sum(1)
    signs = 1 - 2 * (torch.arange(12) % 2).to(x)
    margin = (x[:, :12] * signs).sum(1) - 12 * 0.8 * EPS + 0.3 * (steps - 3)
    return torch.stack([0 * margin, margin, 0 * margin - 9], 1)


X = torch.full((20, 1, 4, 4), 0.5)
Y = torch.zeros(20, dtype=torch.long)


def broken(attack):
    x_adv = attack(staircase, X, Y)
    assert attack.threat.contains(x_adv, X).all()
    return float(misclassified(staircase, x_adv, Y).double().mean())


def search_from_the_clean_image(self, model, x, y, rng, start, search=Square.search):
    return search(self, model, x, y, rng, x)


@fails_under(
    "search from the clean image",
    (guided_search.Square, "search", search_from_the_clean_image),
)
def test_breaks_images_that_neither_part_breaks_alone():
    assert broken(APGD(Linf(EPS), "dlr", steps=20)) < 0.5
    assert broken(Square(Linf(EPS), queries=30)) < 0.5
    assert broken(GuidedSearch(Linf(EPS), steps=20, queries=30)) > 0.8


def test_the_search_starts_from_the_result_of_apgd():
    attack, rng = GuidedSearch(Linf(EPS), steps=5, queries=3), Rng.of_batch(4, 20)
    with mock.patch.object(
        guided_search.Square, "search", autospec=True, side_effect=Square.search
    ) as search:
        attack(staircase, X, Y, rng=rng)
    expected = APGD(Linf(EPS), "dlr", steps=5)(staircase, X, Y, rng=rng)
    assert torch.equal(search.call_args.args[5], expected)


def test_its_gradients_break_the_images_that_apgd_breaks():
    # An image that the rest of the search breaks was then broken by random search alone.
    by_gradient = APGD(Linf(EPS), "dlr", steps=20)(staircase, X, Y)
    broken = misclassified(staircase, by_gradient, Y)
    x_adv = GuidedSearch(Linf(EPS), steps=20, queries=30)(staircase, X, Y)
    assert 0 < broken.sum() < misclassified(staircase, x_adv, Y).sum()
    assert torch.equal(x_adv[broken], by_gradient[broken])


def test_two_classes_use_the_margin_loss():
    model = HalfSpace()
    x, y = model.images(4, Linf(0.1), 0.08)
    assert misclassified(model, GuidedSearch(Linf(0.1), queries=10)(model, x, y), y).all()


@pytest.mark.parametrize("bad", [{"steps": 0}, {"queries": 0}], ids=str)
def test_arguments_out_of_range_raise(bad):
    with pytest.raises(ValueError, match="at least 1"):
        GuidedSearch(Linf(EPS), **bad)
