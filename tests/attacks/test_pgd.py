"""PGD: its steps by hand, its losses, its restarts and its early stop."""

from __future__ import annotations

import itertools

import jaxtyping
import pytest
import torch

from fixtures.models import HalfSpace, Island, Watched
from mutations import fails_under
from spearshield.adversary import loss_gradient, misclassified
from spearshield.attacks.pgd import PGD
from spearshield.discover import name_of
from spearshield.losses.margin import cross_entropy
from spearshield.rng import Rng
from spearshield.threat import L2, Linf

PIXEL = torch.full((1, 1, 1, 1), 0.5)
ZERO = torch.zeros(1, dtype=torch.long)


def short_runs(n=200):
    """Images that only their random start can bring to the island, because the steps are short."""
    x, y = PIXEL.repeat(n, 1, 1, 1), ZERO.repeat(n)
    return Island(), x, y, {"steps": 2, "step_size": 1e-3, "early_stop": False}


def test_early_stop_returns_the_first_misclassified_iterate():
    # From 0.5 the first step ends on the island at 0.6, the second beyond it at 0.7.
    attack = PGD(Linf(0.3), steps=2, step_size=0.1, random_start=False)
    torch.testing.assert_close(attack(Island(), PIXEL, ZERO), torch.full_like(PIXEL, 0.6))


def test_without_early_stop_every_step_is_taken():
    attack = PGD(Linf(0.3), steps=2, step_size=0.1, random_start=False, early_stop=False)
    watched = Watched(Island())
    torch.testing.assert_close(attack(watched, PIXEL, ZERO), torch.full_like(PIXEL, 0.7))
    assert [float(x) for x in watched.seen] == pytest.approx([0.5, 0.6])


def test_an_image_that_has_stopped_is_not_evaluated_again():
    model = HalfSpace()
    near, y = model.images(2, Linf(0.1), 0.005)
    far, _ = model.images(2, Linf(0.1), 0.2)
    watched = Watched(model)
    x = torch.cat([near, far])
    PGD(Linf(0.1), steps=5, random_start=False)(watched, x, y.repeat(2))
    assert [len(x) for x in watched.seen] == [4, 4, 2, 2, 2]


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.4)], ids=str)
def test_starts_at_random_or_at_the_clean_image(threat):
    model = HalfSpace()
    x, y = model.images(4, threat, 2 * threat.eps)
    rng = Rng.of_batch(3, 4)
    for random_start in (True, False):
        watched = Watched(model)
        PGD(threat, steps=1, random_start=random_start)(watched, x, y, rng=rng)
        *clean, start = watched.seen
        assert all(torch.equal(seen, x) for seen in clean) and len(clean) == random_start
        assert threat.contains(start, x).all()
        assert torch.equal(start, x) != random_start


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.4)], ids=str)
def test_on_a_linear_model_it_ends_at_the_optimum(threat):
    model = HalfSpace()
    x, y = model.images(4, threat, 2 * threat.eps)
    for attack in (PGD(threat), PGD(threat, steps=1, step_size=9.0)):
        x_adv = attack(model, x, y)
        left = model.distance(x_adv, threat)
        torch.testing.assert_close(left, torch.full_like(left, threat.eps), rtol=1e-3, atol=0)


def projected_at_the_end(self, model, x, y, rng):
    x_adv = x
    for _ in range(self.steps):
        gradient = loss_gradient(model, x_adv, y, cross_entropy).gradient
        x_adv = x_adv + self.step_size * self.threat.steepest_step(gradient)
    return self.threat.project(x_adv, x)


@fails_under(
    "projection after the last step only", (PGD, "_run", projected_at_the_end), threat=Linf(0.1)
)
@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.4)], ids=str)
def test_every_iterate_stays_in_the_ball(threat):
    model = HalfSpace()
    x, y = model.images(4, threat, 2 * threat.eps)
    watched = Watched(model)
    PGD(threat, steps=5, step_size=threat.eps / 2)(watched, x, y)
    assert len(watched.seen) == 1 + 5  # the clean images first
    assert all(threat.contains(seen, x).all() for seen in watched.seen)


def test_a_step_is_a_tenth_of_eps_by_default():
    model = HalfSpace()
    x, y = model.images(4, Linf(0.1), 0.2)
    x_adv = PGD(Linf(0.1), steps=3, random_start=False)(model, x, y)
    torch.testing.assert_close(Linf(0.1).distance(x_adv, x), torch.full((4,), 0.03))


def test_the_margin_and_dlr_losses_break_a_confident_model():
    model = HalfSpace()
    x, y = model.images(8, Linf(0.1), 0.08)

    def confident(x):
        logits = model(x)
        return 1e4 * torch.cat([logits, -9 + 0 * logits[:, :1]], 1)

    broken = {
        loss: int(misclassified(model, PGD(Linf(0.1), loss=loss)(confident, x, y), y).sum())
        for loss in ("cross_entropy", "margin", "dlr")
    }
    assert broken == {"cross_entropy": 0, "margin": 8, "dlr": 8}


def test_a_step_and_the_test_before_each_run_cost_one_forward_pass():
    model = HalfSpace()
    x, y = model.images(4, Linf(0.1), 0.2)
    for restarts in (1, 3):
        watched = Watched(model)
        PGD(Linf(0.1), steps=5, restarts=restarts)(watched, x, y)
        assert len(watched.seen) == (1 + 5) * restarts


@pytest.mark.parametrize("early_stop", [True, False])
def test_more_restarts_never_lose_an_image(early_stop):
    model, x, y, settings = short_runs()
    settings["early_stop"] = early_stop
    broken = [
        misclassified(model, PGD(Linf(0.3), restarts=r, **settings)(model, x, y), y)
        for r in range(1, 6)
    ]
    assert all((more | ~less).all() for less, more in itertools.pairwise(broken))
    # A start is on the island with probability 0.1 / 0.6.
    shares = [float(b.float().mean()) for b in broken]
    assert shares == pytest.approx([1 - (5 / 6) ** r for r in range(1, 6)], abs=0.1)


def test_a_broken_image_is_not_attacked_again():
    model, x, y, settings = short_runs()
    one = PGD(Linf(0.3), restarts=1, **settings)(model, x, y)
    many = PGD(Linf(0.3), restarts=5, **settings)(model, x, y)
    broken = misclassified(model, one, y)
    assert torch.equal(many[broken], one[broken])
    assert not torch.equal(many[~broken], one[~broken])


def test_its_name_tells_the_losses_apart():
    losses = ("cross_entropy", "margin", "dlr")
    assert [name_of(PGD(Linf(0.3), loss=loss)) for loss in losses] == [
        "pgd",
        "pgd_margin",
        "pgd_dlr",
    ]


@pytest.mark.parametrize(
    "field",
    [{"steps": 0}, {"restarts": 0}, {"step_size": 0.0}, {"step_size": -1.0}, {"loss": "hinge"}],
)
def test_arguments_out_of_range_raise(field, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # else it raises first
    with pytest.raises(ValueError, match=f"{next(iter(field))} must be"):
        PGD(Linf(0.3), **field)
