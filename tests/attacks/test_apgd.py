"""APGD: Algorithm 1 against a transcription of it for one pixel, and what a run returns."""

from __future__ import annotations

import itertools
import math
from unittest import mock

import jaxtyping
import pytest
import torch

from analytic import Affine, HalfSpace, Island, Watched
from spearshield.attack import fooled
from spearshield.attacks import apgd
from spearshield.attacks.apgd import APGD, APGDState, checkpoints
from spearshield.rng import Rng
from spearshield.threat import L2, Linf

EPS = 0.3


class Hills:
    """Images of one pixel; the margin loss of label 0 is ``height``, positive where it is wrong."""

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
    """Algorithm 1 for one pixel, 100 steps: each point that is looked at, and the best one."""

    def inside(value):
        return min(max(value, x - EPS, 0.0), x + EPS, 1.0)

    size, best, looked, states, rises = 2 * EPS, start, [start], [start], []
    halved, best_then, checks = False, start, [0, 22, 41, 57, 70, 80, 87, 93, 99]
    for k in range(100):
        now, before = states[-1], states[max(len(states) - 2, 0)]
        target = inside(now + math.copysign(size, hills.slope(now)))
        share = 1.0 if k == 0 else 0.75
        new = inside(now + share * (target - now) + (1 - share) * (now - before))
        rises.append(hills.height(new) > hills.height(now))
        looked.append(new)
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
    return looked, best


def pixels(n):
    x = Rng.of_batch(5, n).uniform((1, 1, 1)).double()
    return x, torch.zeros(n, dtype=torch.long)


def test_is_algorithm_1():
    hills, (x, y) = Hills(summit=-0.1), pixels(40)  # too low to succeed
    watched = Watched(hills)
    x_adv = APGD(Linf(EPS), loss="margin", early_stop=False)(watched, x, y)
    _, *seen, _ = watched.seen
    assert len(seen) == 101
    for i in range(len(x)):
        looked, best = by_the_book(hills, float(x[i]), float(seen[0][i]))
        assert [float(s[i]) for s in seen] == pytest.approx(looked, abs=1e-9)
        assert float(x_adv[i]) == pytest.approx(best, abs=1e-9)


def test_an_image_leaves_with_the_first_iterate_that_fools():
    hills, (x, y) = Hills(summit=0.2), pixels(40)
    clean = torch.tensor([hills.height(float(v)) <= 0 for v in x])
    x, y = x[clean], y[clean]
    watched = Watched(hills)
    x_adv = APGD(Linf(EPS), loss="margin")(watched, x, y)
    steps = []
    for i in range(len(x)):
        looked, best = by_the_book(hills, float(x[i]), float(watched.seen[1][i]))
        above = [k for k, v in enumerate(looked) if hills.height(v) > 0]
        steps.append(above[0] if above else 100)
        assert float(x_adv[i]) == pytest.approx(looked[above[0]] if above else best, abs=1e-9)
    assert min(steps) == 0 and max(steps) == 100 and len(set(steps)) > 5
    _, *seen, _ = watched.seen
    assert [len(s) for s in seen] == [sum(s >= k for s in steps) for k in range(len(seen))]


def test_the_iterate_that_fools_counts_and_not_the_one_of_highest_loss():
    seen = []

    def turning(x):
        """Eight classes: torn and right twice, then nearly sure and wrong."""
        seen.append(x.detach())
        logits = torch.zeros(1, 8) if len(seen) < 3 else torch.full((1, 8), -9.0)
        logits[0, :2] = torch.tensor([0.1, 0.0]) if len(seen) < 3 else torch.tensor([5.0, 5.1])
        return logits + 1e-3 * x.flatten(1) * (torch.arange(8) > 0)

    x_adv = APGD(Linf(EPS))(turning, torch.full((1, 1, 1, 1), 0.5), torch.tensor([0]))
    assert len(seen) == 4 and not torch.equal(seen[1], seen[2])
    assert torch.equal(x_adv, seen[2])


def test_checkpoints_are_the_papers():
    assert list(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(100) == {22: 22, 41: 19, 57: 16, 70: 13, 80: 10, 87: 7, 93: 6, 99: 6}
    assert checkpoints(10) == {3: 3, 5: 2, 6: 1, 7: 1, 8: 1, 9: 1, 10: 1}
    assert checkpoints(1) == {1: 1}


def climbing(**state):
    """A run of five images, told apart by their pixel."""
    pixel, zero = torch.arange(5.0)[:, None, None, None], torch.zeros(5)
    fresh = {
        "x": pixel,
        "y": zero.long(),
        "rival": zero.long(),
        "x_now": pixel + 10,
        "x_last": pixel + 20,
        "gradient": pixel + 30,
        "loss": zero - 1,
        "wrong": zero.bool(),
        "x_best": pixel + 40,
        "gradient_best": pixel + 50,
        "highest": zero,
        "size": torch.ones_like(pixel),
        "rises": zero.long(),
        "highest_then": zero,
        "halved": zero.bool(),
    }
    return APGDState(**{**fresh, **state})


def test_a_rise_counts_though_higher_points_are_known():
    climb = climbing()  # at -1, and 0 is the highest so far
    x_new, gradient = climb.x + 60, climb.x + 70
    climb.update(x_new, torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.5]), gradient, climb.wrong)
    assert climb.rises.tolist() == [0, 0, 1, 1, 1]
    assert climb.highest.tolist() == [0.0, 0.0, 0.0, 0.0, 0.5]
    assert climb.x_best.flatten().tolist() == [40, 41, 42, 43, 64]
    assert climb.gradient_best.flatten().tolist() == [50, 51, 52, 53, 74]


def test_what_halves_the_step_and_goes_back_to_the_best_point():
    # Steps that raised the loss, of which 15 are enough; the highest loss then and now; halved?
    cases = [
        (14, 0.0, 1.0, False, True),  # too few rises
        (15, 0.0, 1.0, False, False),
        (15, 1.0, 1.0, False, True),  # no new best, and the step was not halved last time
        (15, 1.0, 1.0, True, False),
        (14, 1.0, 1.0, True, True),
    ]
    rises, then, highest, halved, expected = (torch.tensor(c) for c in zip(*cases, strict=True))
    climb = climbing(rises=rises, highest_then=then, highest=highest, halved=halved)
    climb.check(15.0)
    pixel, column = climb.x, expected[:, None, None, None]
    assert torch.equal(climb.halved, expected)
    assert torch.equal(climb.size, torch.where(column, 0.5, 1.0))
    assert torch.equal(climb.x_now, torch.where(column, pixel + 40, pixel + 10))
    assert torch.equal(climb.gradient, torch.where(column, pixel + 50, pixel + 30))
    assert torch.equal(climb.loss, torch.where(expected, highest, -1.0))
    assert torch.equal(climb.highest_then, highest) and not climb.rises.any()


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.4)], ids=str)
def test_the_first_step_is_twice_eps_along_the_gradient(threat):
    model = HalfSpace()
    x, y = model.images(4, threat, 2 * threat.eps)
    watched = Watched(model)
    APGD(threat, steps=1)(watched, x, y)
    _, start, first, _ = watched.seen
    way = (1 - 2 * y)[:, None, None, None] * threat.steepest_step(model.w.detach()[None])
    torch.testing.assert_close(first, threat.project(start + 2 * threat.eps * way, x))


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.4)], ids=str)
def test_on_a_linear_model_it_ends_at_the_optimum(threat):
    model = HalfSpace()
    x, y = model.images(4, threat, 2 * threat.eps)
    left = model.distance(APGD(threat)(model, x, y), threat)
    torch.testing.assert_close(left, torch.full_like(left, threat.eps), rtol=1e-3, atol=0)


def test_dlr_climbs_where_cross_entropy_is_saturated():
    model = HalfSpace()
    x, y = model.images(8, Linf(0.1), 0.08)

    def sure(x):
        logits = model(x)
        return 1e4 * torch.cat([logits, -9 + 0 * logits[:, :1]], 1)

    broken = {
        loss: int(fooled(model, APGD(Linf(0.1), loss=loss, steps=10)(sure, x, y), y).sum())
        for loss in ("ce", "dlr", "margin")
    }
    assert broken == {"ce": 0, "dlr": 8, "margin": 8}


def test_targets_are_the_likeliest_other_classes_each_in_turn():
    model = Affine(6)
    x = 0.5 + 0.1 * Rng.of_batch(0, 8).normal((1, 4, 4)).clamp(-3, 3)
    order = model(x).argsort(1, descending=True)
    for targets, runs in ((3, 3), (5, 5), (9, 5)):
        attack = APGD(Linf(1e-4), targets=targets, restarts=2, steps=1)
        with mock.patch.object(apgd, "targeted_dlr", wraps=apgd.targeted_dlr) as loss:
            attack(model, x, order[:, 0])
        headed = torch.stack([call.args[2] for call in loss.call_args_list], 1)
        assert torch.equal(headed, order[:, 1 : runs + 1].repeat_interleave(4, 1))


def test_targets_lead_out_of_a_trap():
    """Class 1 is nearer and can never win; class 2 can."""

    def trap(x):
        d = x.flatten(1) - 0.5
        return torch.cat([0 * d, -0.5 - d, 8 * d - 2, 0 * d - 9], 1)

    x, y = torch.full((40, 1, 1, 1), 0.5), torch.zeros(40, dtype=torch.long)
    attack = APGD(Linf(EPS), loss="dlr")
    assert fooled(trap, attack(trap, x, y), y).float().mean() < 0.5
    assert fooled(trap, APGD(Linf(EPS), targets=9)(trap, x, y), y).all()


def test_last_runs_are_longer_and_head_for_the_class_that_came_nearest():
    """Class 1 is likeliest and cannot win, class 2 nearly can; no other comes near."""

    def model(x):
        d = x.flatten(1) - 0.5
        return torch.cat([0 * d, 0 * d - 0.3, d - EPS - 0.1, 0 * d - 9], 1)

    x, y = torch.full((4, 1, 1, 1), 0.5), torch.zeros(4, dtype=torch.long)
    attack = APGD(Linf(EPS), targets=3, steps=5, last_runs=2)
    with mock.patch.object(apgd, "targeted_dlr", wraps=apgd.targeted_dlr) as loss:
        attack(model, x, y)
    headed = [int(call.args[2][0]) for call in loss.call_args_list]
    assert headed == [1] * 6 + [2] * 6 + [3] * 6 + [2] * 11 + [2] * 11


def test_more_restarts_never_lose_an_image():
    # One step overshoots the island, so an image is broken where a start falls on it.
    x, y = torch.full((200, 1, 1, 1), 0.5), torch.zeros(200, dtype=torch.long)
    broken = [
        fooled(Island(), APGD(Linf(EPS), steps=1, restarts=r)(Island(), x, y), y)
        for r in range(1, 6)
    ]
    assert all((more | ~less).all() for less, more in itertools.pairwise(broken))
    shares = [float(b.float().mean()) for b in broken]
    assert shares == pytest.approx([1 - (5 / 6) ** r for r in range(1, 6)], abs=0.1)


def test_what_stands_comes_back_as_the_attempt_that_came_nearest():
    hills, (x, y) = Hills(summit=-0.1), pixels(40)
    attempts = [
        hills(APGD(Linf(EPS), "margin", steps=1, restarts=r)(hills, x, y))[:, 1]
        for r in range(1, 6)
    ]
    assert all((more >= less).all() for less, more in itertools.pairwise(attempts))
    assert (attempts[-1] > attempts[0]).any()


def test_what_is_wrong_already_leaves_at_once_or_not_at_all():
    model = HalfSpace()
    x, y = model.images(4, Linf(0.1), 0.2)
    watched = Watched(model)
    assert torch.equal(APGD(Linf(0.1))(watched, x, 1 - y), x)
    assert len(watched.seen) == 1
    stays = APGD(Linf(0.1), steps=3, early_stop=False)(model, x, 1 - y)
    assert (model.distance(stays, Linf(0.1)) > 0.25).all()


def test_without_early_stop_one_lucky_answer_counts_for_nothing():
    model = HalfSpace()
    x, y = model.images(4, Linf(0.1), 0.12)
    calls = 0

    def moody(x):
        """Errs on everything in its third answer."""
        nonlocal calls
        calls += 1
        return -model(x).detach() + 0 * model(x) if calls == 3 else model(x)

    full = APGD(Linf(0.1), loss="margin", early_stop=False)(moody, x, y)
    assert calls == 103
    calls = 0
    lucky = APGD(Linf(0.1), loss="margin")(moody, x, y)
    assert calls == 4
    for x_adv in (full, lucky):
        assert not fooled(model, x_adv, y).any()


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
def test_refuses_what_is_no_attack(field, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # or it refuses some first
    with pytest.raises(ValueError, match=f"{next(iter(field))}.* must"):
        APGD(Linf(0.1), **field)


@pytest.mark.parametrize(("field", "classes"), [({"loss": "dlr"}, 3), ({"targets": 9}, 4)])
def test_refuses_a_model_with_too_few_classes(field, classes):
    model = HalfSpace()
    x, y = model.images(2, Linf(0.1), 0.2)
    with pytest.raises(ValueError, match=f"at least {classes} classes, the model has 2"):
        APGD(Linf(0.1), **field)(model, x, y)
