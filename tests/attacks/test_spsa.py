"""SPSA: its estimate, its queries and its steps by hand, on models without a gradient."""

from __future__ import annotations

import pytest
import torch

from fixtures.models import HalfSpace, Island
from spearshield.adversary import misclassified
from spearshield.attacks import spsa
from spearshield.attacks.spsa import SPSA
from spearshield.rng import Rng
from spearshield.threat import L2, Linf

PIXEL = torch.full((1, 1, 1, 1), 0.5)
ZERO = torch.zeros(1, dtype=torch.long)


class Oracle:
    """A model without a gradient that records its queries."""

    def __init__(self, model=None):
        self.model, self.seen = model or HalfSpace(), []

    def __call__(self, x):
        assert not torch.is_grad_enabled() and not x.requires_grad
        assert ((x >= 0) & (x <= 1)).all()
        self.seen.append(x.clone())
        return self.model(x)


def test_a_pair_of_queries_gives_the_derivative_of_one_pixel():
    # The margin loss 2 * (0.05^2 - (x - 0.62)^2) is a parabola: central differences are exact.
    gradient = SPSA(Linf(0.3), samples=2)._estimate(Island(), PIXEL, ZERO, Rng.of_batch(0, 1))
    assert float(gradient) == pytest.approx(4 * 0.12, rel=1e-3)


def test_the_estimate_is_unbiased():
    model, x = HalfSpace(), torch.full((1, 1, 4, 4), 0.5)
    estimate = SPSA(Linf(0.3), samples=40_000)._estimate(model, x, ZERO, Rng.of_batch(0, 1))
    # The loss is twice the margin. The deviation of a term is at most the gradient norm, about 7.
    assert (estimate - 2 * model.w).abs().max() < 0.2


def test_adam_increases_the_loss_until_the_image_is_misclassified():
    # Adam's first step is lr long, the second nearly; the island begins at 0.57.
    attack = SPSA(Linf(0.3), steps=1, samples=2, lr=0.04)
    assert float(attack(Oracle(Island()), PIXEL, ZERO)) == pytest.approx(0.54, abs=1e-5)
    attack = SPSA(Linf(0.3), steps=9, samples=2, lr=0.04)
    assert float(attack(Oracle(Island()), PIXEL, ZERO)) == pytest.approx(0.58, abs=2e-3)


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.4)], ids=str)
def test_breaks_a_staircase(threat):
    """Rounded logits have no gradient, but finite differences."""

    def staircase(x):
        return (20 * model(x)).round() / 20

    model = HalfSpace()
    x, y = model.images(6, threat, threat.eps / 1.3)
    x_adv = SPSA(threat, steps=40, delta=0.05)(Oracle(staircase), x, y)
    assert misclassified(staircase, x_adv, y).all() and threat.contains(x_adv, x).all()


def test_queries_are_new_pairs_around_the_image():
    oracle, model = Oracle(), HalfSpace()
    x, y = model.images(1, Linf(0.1), 0.2)
    SPSA(Linf(0.1), steps=2, samples=6, lr=1e-9)(oracle, x, y)
    tests, steps = oracle.seen[::2], oracle.seen[1::2]
    assert [len(seen) for seen in tests] == [1, 1] and [len(seen) for seen in steps] == [6, 6]
    for queries in steps:
        torch.testing.assert_close((queries[:3] + queries[3:]) / 2, x.expand(3, -1, -1, -1))
        torch.testing.assert_close((queries - x).abs(), torch.full((6, 1, 4, 4), 0.01))
        assert len((queries > x).unique(dim=0)) == 6
    assert not torch.equal(steps[0] > x, steps[1] > x)


def test_queries_around_black_and_white_pixels_are_images():
    x = torch.tensor([0.0, 1.0, 0.5, 0.002]).reshape(1, 1, 2, 2)
    oracle = Oracle(HalfSpace((1, 2, 2)))  # asserts that queries are images
    SPSA(Linf(0.1), steps=1, samples=4)(oracle, x, ZERO)
    assert len(oracle.seen[1]) == 4 and oracle.seen[1].amin() == 0 and oracle.seen[1].amax() == 1


def test_a_step_starts_from_the_projected_image():
    class Turning:
        """One pixel whose loss increases with it in the first step and decreases afterwards."""

        calls = 0

        def __call__(self, x):
            self.calls += 1
            sign = 1 if self.calls <= 2 else -1
            return torch.cat([torch.full((len(x), 1), 10.0), sign * x.flatten(1)], 1)

    # Adam: 0.4 up, clipped to 0.05; then (0.9 * 0.1 - 0.1) / (1 - 0.81) of 0.4 down.
    x_adv = SPSA(Linf(0.05), steps=2, samples=2, lr=0.4)(Turning(), PIXEL, ZERO)
    assert float(x_adv) == pytest.approx(0.55 - 0.4 / 19, abs=1e-4)


def test_an_image_that_has_stopped_is_not_queried_again():
    model = HalfSpace()
    near, y = model.images(2, Linf(0.1), 0.005)
    far, _ = model.images(2, Linf(0.1), 0.2)
    oracle = Oracle(model)
    x_adv = SPSA(Linf(0.1), steps=6, samples=32)(oracle, torch.cat([near, far]), y.repeat(2))
    assert misclassified(model, x_adv, y.repeat(2)).tolist() == [True, True, False, False]
    sizes = [len(seen) for seen in oracle.seen]
    assert sizes[:2] == [4, 4 * 32] and sizes[-2:] == [2, 2 * 32]


def test_a_forward_pass_is_no_larger_than_the_limit(monkeypatch):
    model = HalfSpace()
    x, y = model.images(7, Linf(0.1), 0.2)
    rng = Rng.of_batch(0, 7)
    attack = SPSA(Linf(0.1), steps=2, samples=20)
    monkeypatch.setattr(spsa, "MAX_VALUES", 16 * 12)  # 12 queries: 6 pairs of one image
    oracle = Oracle(model)
    together = attack(oracle, x, y, rng=rng)
    assert [len(seen) for seen in oracle.seen] == 2 * [7, *7 * [12, 8]]
    assert len((torch.cat(oracle.seen[1:3]) > x[0]).unique(dim=0)) == 20  # no direction twice
    alone = [attack(model, x[i : i + 1], y[i : i + 1], rng=rng[i : i + 1]) for i in range(7)]
    torch.testing.assert_close(together, torch.cat(alone))
    monkeypatch.setattr(spsa, "MAX_VALUES", 16 * 50)  # all pairs of two images
    oracle.seen.clear()
    attack(oracle, x, y, rng=rng)
    assert [len(seen) for seen in oracle.seen] == 2 * [7, 40, 40, 40, 20]


@pytest.mark.parametrize(
    "field", [{"steps": 0}, {"samples": 3}, {"samples": 0}, {"lr": 0.0}, {"delta": -1.0}], ids=str
)
def test_arguments_out_of_range_raise(field):
    with pytest.raises(ValueError, match=f"{next(iter(field))} must be"):
        SPSA(Linf(0.1), **field)
