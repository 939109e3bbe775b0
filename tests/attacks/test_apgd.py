"""APGD: Algorithm 1 against a transcription of it for one pixel, targets, and results."""

from __future__ import annotations

import itertools
import math
from unittest import mock

import jaxtyping
import pytest
import torch

from fixtures.models import Affine, HalfSpace, Island, Watched
from mutations import fails_under
from spearshield.adversary import misclassified
from spearshield.attacks import apgd
from spearshield.attacks.apgd import APGD
from spearshield.discover import name_of
from spearshield.losses.margin import dlr
from spearshield.rng import Rng
from spearshield.threat import L2, Linf

EPS = 0.3


class Hills:
    """Images of one pixel; the margin loss of label 0 is ``height``, positive if misclassified."""

    def __init__(self, summit):
        self.summit = summit

    def height(self, x):
        return self.summit + 0.2 * math.sin(40 * x) + math.sin(9 * x) - 1.2

    def slope(self, x):
        return 8 * math.cos(40 * x) + 9 * math.cos(9 * x)

    def __call__(self, x):
        x = x.flatten(1)
        rise = self.summit + 0.2 * torch.sin(40 * x) + torch.sin(9 * x) - 1.2
        return torch.cat([torch.zeros_like(rise), rise], 1)


def by_the_book(hills, x, start):
    """Algorithm 1 for one pixel, 100 steps: each evaluated point, and the best one."""

    def inside(value):
        return min(max(value, x - EPS, 0.0), x + EPS, 1.0)

    size, best, evaluated, states, rises = 2 * EPS, start, [start], [start], []
    halved, best_then, checks = False, start, [0, 22, 41, 57, 70, 80, 87, 93, 99]
    for k in range(100):
        now, before = states[-1], states[max(len(states) - 2, 0)]
        target = inside(now + math.copysign(size, hills.slope(now)))
        share = 1.0 if k == 0 else 0.75
        new = inside(now + share * (target - now) + (1 - share) * (now - before))
        rises.append(hills.height(new) > hills.height(now))
        evaluated.append(new)
        if hills.height(new) > hills.height(best):
            best = new
        states.append(new)
        if k + 1 in checks:
            window = k + 1 - checks[checks.index(k + 1) - 1]
            stuck = not halved and best == best_then
            halved = sum(rises[-window:]) < 0.75 * window or stuck
            best_then = best
            if halved:
                size, states[-1] = size / 2, best
    return evaluated, best


def pixels(n):
    x = Rng.of_batch(5, n).uniform((1, 1, 1)).double()
    return x, torch.zeros(n, dtype=torch.long)


def halved_at_the_current_point(self, required_rises):
    stuck = ~self.halved & (self.loss_best == self.loss_best_before)
    self.halved = (self.rises < required_rises) | stuck
    self.step_size[self.halved] /= 2
    self.rises = torch.zeros_like(self.rises)
    self.loss_best_before = self.loss_best.clone()


@fails_under(
    "step halved without a return to the best point",
    (apgd.APGDState, "at_checkpoint", halved_at_the_current_point),
)
def test_is_algorithm_1():
    hills, (x, y) = Hills(summit=-0.1), pixels(40)  # too low to succeed
    watched = Watched(hills)
    x_adv = APGD(Linf(EPS), loss="margin", early_stop=False)(watched, x, y)
    _, *seen, _ = watched.seen
    assert len(seen) == 101
    for i in range(len(x)):
        evaluated, best = by_the_book(hills, float(x[i]), float(seen[0][i]))
        assert [float(s[i]) for s in seen] == pytest.approx(evaluated, abs=1e-9)
        assert float(x_adv[i]) == pytest.approx(best, abs=1e-9)


def test_an_image_stops_at_its_first_misclassified_iterate():
    hills, (x, y) = Hills(summit=0.2), pixels(40)
    clean = torch.tensor([hills.height(float(v)) <= 0 for v in x])
    x, y = x[clean], y[clean]
    watched = Watched(hills)
    x_adv = APGD(Linf(EPS), loss="margin")(watched, x, y)
    steps = []
    for i in range(len(x)):
        evaluated, best = by_the_book(hills, float(x[i]), float(watched.seen[1][i]))
        above = [k for k, v in enumerate(evaluated) if hills.height(v) > 0]
        steps.append(above[0] if above else 100)
        assert float(x_adv[i]) == pytest.approx(evaluated[above[0]] if above else best, abs=1e-9)
    assert min(steps) == 0 and max(steps) == 100 and len(set(steps)) > 5
    _, *seen, _ = watched.seen
    assert [len(s) for s in seen] == [sum(s >= k for s in steps) for k in range(len(seen))]


def test_a_misclassified_iterate_is_preferred_to_one_of_higher_loss():
    seen = []

    def turning(x):
        """Eight classes: correct with high loss twice, then misclassified with a lower loss."""
        seen.append(x.detach())
        logits = torch.zeros(1, 8) if len(seen) < 3 else torch.full((1, 8), -9.0)
        logits[0, :2] = torch.tensor([0.1, 0.0]) if len(seen) < 3 else torch.tensor([5.0, 5.1])
        return logits + 1e-3 * x.flatten(1) * (torch.arange(8) > 0)

    x_adv = APGD(Linf(EPS))(turning, torch.full((1, 1, 1, 1), 0.5), torch.tensor([0]))
    assert len(seen) == 4 and not torch.equal(seen[1], seen[2])
    assert torch.equal(x_adv, seen[2])


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.4)], ids=str)
def test_the_first_step_is_twice_eps_along_the_gradient(threat):
    model = HalfSpace()
    x, y = model.images(4, threat, 2 * threat.eps)
    watched = Watched(model)
    APGD(threat, steps=1)(watched, x, y)
    _, start, first, _ = watched.seen
    direction = (1 - 2 * y)[:, None, None, None] * threat.steepest_step(model.w.detach()[None])
    torch.testing.assert_close(first, threat.project(start + 2 * threat.eps * direction, x))


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.4)], ids=str)
def test_on_a_linear_model_it_ends_at_the_optimum(threat):
    model = HalfSpace()
    x, y = model.images(4, threat, 2 * threat.eps)
    left = model.distance(APGD(threat)(model, x, y), threat)
    torch.testing.assert_close(left, torch.full_like(left, threat.eps), rtol=1e-3, atol=0)


@fails_under(
    "DLR of the wrong sign",
    (apgd, "LOSSES", {**apgd.LOSSES, "dlr": lambda logits, y: -dlr(logits, y)}),
)
def test_dlr_and_margin_work_where_cross_entropy_is_saturated():
    model = HalfSpace()
    x, y = model.images(8, Linf(0.1), 0.08)

    def confident(x):
        logits = model(x)
        return 1e4 * torch.cat([logits, -9 + 0 * logits[:, :1]], 1)

    broken = {
        loss: int(
            misclassified(model, APGD(Linf(0.1), loss=loss, steps=10)(confident, x, y), y).sum()
        )
        for loss in ("cross_entropy", "dlr", "margin")
    }
    assert broken == {"cross_entropy": 0, "dlr": 8, "margin": 8}


def test_targets_are_the_classes_with_the_highest_other_logits_in_turn():
    model = Affine(6)
    x = 0.5 + 0.1 * Rng.of_batch(0, 8).normal((1, 4, 4)).clamp(-3, 3)
    order = model(x).argsort(1, descending=True)
    for targets, runs in ((3, 3), (5, 5), (9, 5)):
        attack = APGD(Linf(1e-4), targets=targets, restarts=2, steps=1)
        with mock.patch.object(apgd, "targeted_dlr", wraps=apgd.targeted_dlr) as loss:
            attack(model, x, order[:, 0])
        targeted = torch.stack([call.args[2] for call in loss.call_args_list], 1)
        assert torch.equal(targeted, order[:, 1 : runs + 1].repeat_interleave(4, 1))


def test_targets_break_images_that_the_untargeted_attack_does_not():
    """Class 1 has a higher logit but can never be predicted; class 2 can."""

    def model(x):
        d = x.flatten(1) - 0.5
        return torch.cat([0 * d, -0.5 - d, 8 * d - 2, 0 * d - 9], 1)

    x, y = torch.full((40, 1, 1, 1), 0.5), torch.zeros(40, dtype=torch.long)
    attack = APGD(Linf(EPS), loss="dlr")
    assert misclassified(model, attack(model, x, y), y).float().mean() < 0.5
    assert misclassified(model, APGD(Linf(EPS), targets=9)(model, x, y), y).all()


def test_last_runs_are_longer_and_target_the_runner_up_of_the_best_attempt():
    """Class 1 is the first target and cannot be predicted; class 2 comes nearest."""

    def model(x):
        d = x.flatten(1) - 0.5
        return torch.cat([0 * d, 0 * d - 0.3, d - EPS - 0.1, 0 * d - 9], 1)

    x, y = torch.full((4, 1, 1, 1), 0.5), torch.zeros(4, dtype=torch.long)
    attack = APGD(Linf(EPS), targets=3, steps=5, last_runs=2)
    with mock.patch.object(apgd, "targeted_dlr", wraps=apgd.targeted_dlr) as loss:
        attack(model, x, y)
    targeted = [int(call.args[2][0]) for call in loss.call_args_list]
    assert targeted == [1] * 6 + [2] * 6 + [3] * 6 + [2] * 11 + [2] * 11


def test_more_restarts_never_lose_an_image():
    # One step overshoots the island, so an image is broken only if a start is on it.
    x, y = torch.full((200, 1, 1, 1), 0.5), torch.zeros(200, dtype=torch.long)
    broken = [
        misclassified(Island(), APGD(Linf(EPS), steps=1, restarts=r)(Island(), x, y), y)
        for r in range(1, 6)
    ]
    assert all((more | ~less).all() for less, more in itertools.pairwise(broken))
    shares = [float(b.float().mean()) for b in broken]
    assert shares == pytest.approx([1 - (5 / 6) ** r for r in range(1, 6)], abs=0.1)


def test_an_unbroken_image_is_returned_as_the_attempt_of_highest_margin():
    hills, (x, y) = Hills(summit=-0.1), pixels(40)
    attempts = [
        hills(APGD(Linf(EPS), "margin", steps=1, restarts=r)(hills, x, y))[:, 1]
        for r in range(1, 6)
    ]
    assert all((more >= less).all() for less, more in itertools.pairwise(attempts))
    assert (attempts[-1] > attempts[0]).any()


def test_an_image_misclassified_from_the_start_stops_at_once_or_not_at_all():
    model = HalfSpace()
    x, y = model.images(4, Linf(0.1), 0.2)
    watched = Watched(model)
    assert torch.equal(APGD(Linf(0.1))(watched, x, 1 - y), x)
    assert len(watched.seen) == 1
    stays = APGD(Linf(0.1), steps=3, early_stop=False)(model, x, 1 - y)
    assert (model.distance(stays, Linf(0.1)) > 0.25).all()


def test_without_early_stop_one_misclassified_output_is_ignored():
    model = HalfSpace()
    x, y = model.images(4, Linf(0.1), 0.12)
    calls = 0

    def random_model(x):
        """Misclassifies everything in its third call."""
        nonlocal calls
        calls += 1
        return -model(x).detach() + 0 * model(x) if calls == 3 else model(x)

    full = APGD(Linf(0.1), loss="margin", early_stop=False)(random_model, x, y)
    assert calls == 103
    calls = 0
    stopped = APGD(Linf(0.1), loss="margin")(random_model, x, y)
    assert calls == 4
    for x_adv in (full, stopped):
        assert not misclassified(model, x_adv, y).any()


@pytest.mark.parametrize(
    "field",
    [
        {"loss": "dlr2"},
        {"targets": -1},
        {"last_runs": -1, "targets": 3},
        {"last_runs": 1},
        {"steps": 0},
        {"restarts": 0},
        {"rho": -0.1},
        {"rho": 1.1},
    ],
)
def test_arguments_out_of_range_raise(field, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # else it raises first
    with pytest.raises(ValueError, match=f"{next(iter(field))}.* must"):
        APGD(Linf(0.1), **field)


@pytest.mark.parametrize(("field", "classes"), [({"loss": "dlr"}, 3), ({"targets": 9}, 4)])
def test_a_model_with_too_few_classes_raises(field, classes):
    model = HalfSpace()
    x, y = model.images(2, Linf(0.1), 0.2)
    with pytest.raises(ValueError, match=f"at least {classes} classes, the model has 2"):
        APGD(Linf(0.1), **field)(model, x, y)


def test_its_name_tells_the_variants_apart():
    variants = ({}, {"loss": "margin"}, {"loss": "dlr"}, {"targets": 9, "loss": "margin"})
    names = [name_of(APGD(Linf(0.3), **variant)) for variant in variants]
    assert names == ["apgd_ce", "apgd_margin", "apgd_dlr", "apgd_targeted_dlr"]
