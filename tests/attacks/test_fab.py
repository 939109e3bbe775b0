"""FAB: exact distances, its steps by hand, its restarts and its final search."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from fixtures.models import Affine, HalfSpace, Watched, dual_exponent, every_image, inner_images
from mutations import fails_under
from spearshield.adversary import misclassified
from spearshield.attacks.fab import FAB
from spearshield.threat import L2, Linf, ThreatModel

NORMS = pytest.mark.parametrize("norm", [Linf, L2])


@NORMS
@pytest.mark.parametrize("targets", [0, 9])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_exact_distance_of_an_affine_classifier(norm, targets, classes):
    model, x, threat = Affine(classes), inner_images(16), norm(1.0)
    y = model(x).argmax(1)
    x_adv = FAB(threat, targets=targets, steps=5, early_stop=False)(model, x, y)
    assert misclassified(model, x_adv, y).all()
    expected = model.distance(x, threat)
    torch.testing.assert_close(threat.distance(x_adv, x), expected, rtol=2e-3, atol=0)


def unbounded_step(self, x, gradient, rise):
    """The step to the hyperplane that ignores the bounds of the pixels."""
    length = (rise / self.dual_norm(gradient))[:, None, None, None]
    return length * self.steepest_step(gradient)


@fails_under(
    "projection that leaves [0, 1]", (ThreatModel, "to_hyperplane", unbounded_step), norm=Linf
)
@NORMS
def test_the_exact_distance_where_pixels_cannot_move(norm):
    model, y = HalfSpace(), torch.zeros(1, dtype=torch.long)
    x = torch.where(model.w > 0, 0.2, 0.0).detach()[None]
    movable = model.w.detach().clamp(min=0)
    exact = model.margin(x).detach().abs() / movable.flatten().norm(dual_exponent(norm))
    x_adv = FAB(every_image(norm, x), early_stop=False, steps=5)(model, x, y)
    torch.testing.assert_close(every_image(norm, x).distance(x_adv, x), exact, rtol=1e-3, atol=0)


def test_the_targets_are_the_classes_with_the_highest_logits():
    model, x, threat = Affine(10), inner_images(64), L2(2.0)
    y, second = model(x).topk(2).indices.unbind(1)
    x_adv = FAB(threat, targets=1, steps=5, early_stop=False)(model, x, y)
    reached = model(x_adv).argmax(1)
    assert (reached == second).float().mean() > 0.8  # another class may lie in between
    assert (threat.distance(x_adv, x) > 1.03 * model.distance(x, threat)).any()


@NORMS
def test_two_steps_by_hand(norm):
    model, threat = HalfSpace(), norm(0.1)
    x, y = model.images(4, threat, 0.1)
    watched = Watched(model)
    FAB(threat, targets=1, steps=2, early_stop=False)(watched, x, y)
    # Clean; two steps, each linearised and evaluated; then the final search.
    distances = [threat.distance(seen, x) for seen in watched.seen[:5]]
    back = 0.9 * 1.05  # the first success, moved back
    alpha = (1 - back) / (1 - back + 1)
    last = (1 - alpha) * (back + 1.05 * (1 - back)) + alpha * 1.05
    for seen, expected in zip(distances, (0, 0, 1.05, back, last), strict=True):
        torch.testing.assert_close(seen, torch.full_like(seen, 0.1 * expected))


@NORMS
def test_the_bias_towards_the_clean_image_is_bounded(norm):
    model, threat = HalfSpace(), norm(0.1)
    x, y = model.images(4, threat, 0.1)
    watched = Watched(model)
    FAB(threat, targets=1, steps=2, beta=0.2, alpha_max=0.1, early_stop=False)(watched, x, y)
    back = 0.2 * 1.05
    last = 0.9 * (back + 1.05 * (1 - back)) + 0.1 * 1.05
    seen = threat.distance(watched.seen[4], x)
    torch.testing.assert_close(seen, torch.full_like(seen, 0.1 * last))


def test_the_nearest_success_of_a_run_is_returned():
    def model(x):
        score = x.flatten(1) - 0.55
        return torch.cat([-score, score], 1)

    places = [torch.full((1, 1, 1, 1), place) for place in (0.7, 0.6, 0.5, 0.8)]
    attack = FAB(Linf(1.0), steps=4, early_stop=False)
    with (
        mock.patch.object(FAB, "_step", side_effect=places),
        mock.patch.object(FAB, "_final_search", lambda self, model, x, y, x_adv: x_adv),
    ):
        x_adv = attack(model, torch.full((1, 1, 1, 1), 0.5), torch.tensor([0]))
    assert torch.equal(x_adv, places[1])


@NORMS
def test_the_final_search_removes_the_overshoot(norm):
    model, x, threat = Affine(3), inner_images(16), norm(1.0)
    y = model(x).argmax(1)
    x_adv = FAB(threat, targets=0, steps=1, eta=1.5, early_stop=False)(model, x, y)
    assert misclassified(model, x_adv, y).all()
    expected = model.distance(x, threat)
    torch.testing.assert_close(threat.distance(x_adv, x), expected, rtol=1e-3, atol=0)


def test_the_final_search_handles_a_curved_boundary():
    # Class 1 if the cube of the pixel exceeds 0.5: the secant from 0 ends before 0.7937.
    def model(x):
        score = x.flatten(1) ** 3 - 0.5
        return torch.cat([torch.zeros_like(score), score], 1)

    x, y = torch.full((1, 1, 1, 1), 0.3), torch.zeros(1, dtype=torch.long)
    x_adv = FAB(Linf(1.0), early_stop=False, steps=1, eta=1.05)(model, x, y)
    assert misclassified(model, x_adv, y).all()
    assert 0.5 ** (1 / 3) < float(x_adv) < 0.9


@NORMS
def test_an_image_stops_once_it_is_within_eps(norm):
    model, threat = HalfSpace(), norm(0.1)
    near, y = model.images(2, threat, 0.05)
    far, _ = model.images(2, threat, 0.2)
    x = torch.cat([near, far])
    watched = Watched(model)
    x_adv = FAB(threat, targets=1, steps=3)(watched, x, y.repeat(2))
    assert [len(seen) for seen in watched.seen] == [4, 4, 4, 2, 2, 2, 2, *[2] * 5]
    expected = torch.tensor([1.05 * 0.05] * 2 + [0.1] * 2)
    torch.testing.assert_close(threat.distance(x_adv, x), expected)
    assert misclassified(model, x_adv, y.repeat(2)).tolist() == [True, True, False, False]


@NORMS
def test_later_runs_start_at_random_points_near_the_clean_image(norm):
    model, threat = HalfSpace(), norm(0.1)
    x, y = model.images(4, threat, 0.2)
    watched = Watched(model)
    FAB(threat, targets=1, steps=1, restarts=2)(watched, x, y)
    first, second = watched.seen[1], watched.seen[3]
    assert torch.equal(first, x)
    distance = threat.distance(second, x)
    assert (distance > 0).all() and (distance <= 0.05 + 1e-6).all()


def test_a_random_start_escapes_a_plateau():
    # No gradient up to 0.5; the boundary is at a distance of eps / 3.
    def model(x):
        score = (x.flatten(1) - 0.5).relu() - 0.04
        return torch.cat([torch.zeros_like(score), score], 1)

    x, y = torch.full((100, 1, 1, 1), 0.5), torch.zeros(100, dtype=torch.long)
    shares = [
        float(
            misclassified(model, FAB(Linf(0.12), steps=3, restarts=r)(model, x, y), y)
            .float()
            .mean()
        )
        for r in (1, 2, 3)
    ]
    assert shares == pytest.approx([0, 1 / 2, 3 / 4], abs=0.1)


def test_an_image_without_success_is_returned_unchanged():
    x = inner_images(16)
    x_adv = FAB(L2(2.0), steps=2)(
        lambda x: 0 * x.flatten(1)[:, :2] + torch.eye(2)[0], x, x[:, 0, 0, 0].long()
    )
    assert torch.equal(x_adv, x)
    model = Affine(3)
    wrong = (model(x).argmax(1) + 1) % 3
    for early_stop in (True, False):
        assert torch.equal(FAB(L2(2.0), early_stop=early_stop)(model, x, wrong), x)


@pytest.mark.parametrize(
    "field",
    [
        {"targets": -1},
        {"steps": 0},
        {"restarts": 0},
        {"alpha_max": 1.1},
        {"beta": -0.1},
        {"eta": 0.9},
    ],
)
def test_arguments_out_of_range_raise(field):
    with pytest.raises(ValueError, match=f"{next(iter(field))}.* must be"):
        FAB(L2(1.0), **field)
