"""AutoAttack: its attacks, the images that each is given, and the attempt that is returned."""

from __future__ import annotations

from dataclasses import dataclass, replace
from unittest import mock

import jaxtyping
import pytest
import torch

from fixtures.models import HalfSpace
from spearshield.adversary import Attack, misclassified
from spearshield.attacks.apgd import APGD
from spearshield.attacks.auto_attack import AutoAttack
from spearshield.attacks.fab import FAB
from spearshield.attacks.square import Square
from spearshield.rng import Rng
from spearshield.threat import L2, Linf

THREAT = Linf(0.1)


@dataclass(frozen=True)
class Push(Attack):
    """Moves each image towards the plane by the share of the budget at the index of its id."""

    shares: tuple[float, ...] = ()

    def perturb(self, model, x, y, rng):
        CALLS.append((rng.key, rng.ids.tolist()))
        share = torch.tensor(self.shares)[rng.ids][:, None, None, None]
        direction = (1 - 2 * y)[:, None, None, None] * self.threat.steepest_step(
            model.w.detach()[None]
        )
        return x + share * self.threat.eps * direction


CALLS: list = []
FIRST = Push(THREAT, (0.0, 0.9, 0.3, 0.1))
SECOND = Push(THREAT, (0.9, 0.8, 0.2, 0.2))


def pushed(version, x, y, model):
    CALLS.clear()
    with mock.patch.object(AutoAttack, "parts", lambda self, classes: (FIRST, SECOND)):
        return AutoAttack(THREAT, version)(model, x, y)


def shift(x_adv, x):
    """Share of the budget that was used for each image."""
    return pytest.approx((THREAT.distance(x_adv, x) / THREAT.eps).tolist(), rel=1e-4)


def test_the_standard_version_has_the_attacks_of_the_paper():
    assert AutoAttack(THREAT).parts(10) == (
        APGD(THREAT, loss="cross_entropy", steps=100, restarts=1, rho=0.75),
        APGD(THREAT, targets=9, steps=100, restarts=1, rho=0.75),
        FAB(THREAT, targets=9, steps=100, restarts=1),
        Square(THREAT, queries=5000, p_init=0.8, restarts=1),
    )


def test_arguments_are_passed_to_every_part():
    parts = AutoAttack(L2(2.0), steps=7, targets=3, queries=11).parts(10)
    assert all(part.threat == L2(2.0) for part in parts)
    assert [part.steps for part in parts[:3]] == [7, 7, 7]
    assert (parts[1].targets, parts[2].targets, parts[3].queries) == (3, 3, 11)
    assert all(part.steps == 7 for part in AutoAttack(L2(2.0), "rand", steps=7).parts(10))


def test_rand_has_no_early_stop():
    expected = APGD(THREAT, early_stop=False), APGD(THREAT, loss="dlr", early_stop=False)
    assert AutoAttack(THREAT, "rand").parts(10) == expected


def test_with_few_classes_losses_that_are_defined_are_used():
    for classes, loss in ((3, "dlr"), (2, "margin")):
        assert AutoAttack(THREAT).parts(classes)[1] == APGD(THREAT, loss=loss)
        assert AutoAttack(THREAT, "rand").parts(classes)[1].loss == loss


def test_a_part_is_given_the_images_that_earlier_parts_did_not_break():
    model = HalfSpace()
    x, y = model.images(4, THREAT, 0.08)  # a share over 0.8 breaks an image
    x_adv = pushed("standard", x, y, model)
    (one, all_four), (other, rest) = CALLS
    assert (all_four, rest) == ([0, 1, 2, 3], [0, 2, 3])
    assert one != other  # and independent randomness
    assert misclassified(model, x_adv, y).tolist() == [True, True, False, False]


def test_returns_the_first_success_or_the_attempt_of_highest_margin():
    model = HalfSpace()
    x, y = model.images(4, THREAT, 0.08)
    assert shift(pushed("standard", x, y, model), x) == [0.9, 0.9, 0.3, 0.2]


def test_rand_gives_every_image_to_every_part_and_returns_the_highest_margin():
    model = HalfSpace()
    x, y = model.images(4, THREAT, 0.08)
    x_adv = pushed("rand", x, y, model)
    assert [ids for _, ids in CALLS] == [[0, 1, 2, 3]] * 2
    assert shift(x_adv, x) == [0.9, 0.9, 0.3, 0.2]
    wrong = pushed("rand", x, 1 - y, model)  # misclassified images are attacked too
    assert shift(wrong, x) == [0.9, 0.9, 0.3, 0.2]


def test_standard_returns_misclassified_images_unchanged():
    model = HalfSpace()
    x, y = model.images(4, THREAT, 0.08)
    y[0] = 1 - y[0]
    x_adv = pushed("standard", x, y, model)
    assert [ids for _, ids in CALLS] == [[1, 2, 3], [2, 3]]
    assert torch.equal(x_adv[0], x[0])


def random_model(model, draws):
    """The mean of ``draws`` outputs of a model that inverts every tenth output at random."""

    def output(x, draw):
        opposite = Rng.of_content(draw, x).uniform((1,)) < 0.1
        return torch.where(opposite, -1.0, 1.0) * model(x)

    return lambda x: torch.stack([output(x, draw) for draw in range(draws)]).mean(0)


def test_rand_is_not_stopped_by_one_misclassified_output():
    model = HalfSpace()
    x, y = model.images(40, THREAT, 0.08)
    broken = {
        version: misclassified(
            model, AutoAttack(THREAT, version, steps=20)(random_model(model, draws), x, y), y
        ).float()
        for version, draws in (("standard", 1), ("rand", 20))
    }
    assert broken["standard"].mean() < 0.8  # the others stopped at one misclassified output
    assert broken["rand"].all()


def test_breaks_images_within_the_budget_and_no_others():
    model = HalfSpace()
    x, y = model.images(4, THREAT, 0.06)
    quick = AutoAttack(THREAT, steps=20, queries=100)
    assert misclassified(model, quick(model, x, y), y).all()
    for version in ("standard", "rand"):
        x_adv = replace(quick, version=version, threat=Linf(0.059))(model, x, y)
        assert not misclassified(model, x_adv, y).any()


@pytest.mark.parametrize(
    "field", [{"version": "plus"}, {"steps": 0}, {"targets": 0}, {"queries": 0}]
)
def test_arguments_out_of_range_raise(field, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # else it raises first
    with pytest.raises(ValueError, match=f"{next(iter(field))}.* must"):
        AutoAttack(THREAT, **field)
