"""HopSkipJump: exact on a plane, its budget of queries, its estimate, and models without slopes."""

from __future__ import annotations

import math

import pytest
import torch

from fixtures.models import HalfSpace, Watched, inner_images
from mutations import fails_under
from spearshield.adversary import misclassified
from spearshield.attacks import hop_skip_jump
from spearshield.attacks.hop_skip_jump import HopSkipJump
from spearshield.rng import Rng
from spearshield.threat import L2, Linf

NORMS = pytest.mark.parametrize("norm", [Linf, L2])


def classes_only(model):
    """The model with logits that are 1 for the predicted class, else 0."""

    def answer(x):
        assert not torch.is_grad_enabled() and not x.requires_grad
        logits = model(x).detach()
        return torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1]).to(x.dtype)

    return answer


class Nearest:
    """A 1-nearest-neighbour classifier: the logit of a class is 1 if it has the nearest image."""

    def __init__(self, memory, labels):
        self.memory, self.labels = memory.flatten(1), labels

    def __call__(self, x):
        nearest = torch.cdist(x.flatten(1), self.memory).argmin(1)
        return torch.nn.functional.one_hot(self.labels[nearest], 2).to(x.dtype)


@fails_under(
    "bisection that goes outwards",
    (HopSkipJump, "_to_boundary", lambda self, victim, x_adv, x, rows: x_adv),
    norm=L2,
)
@NORMS
def test_the_distance_of_a_plane_within_5_percent(norm):
    model, threat = HalfSpace(), norm(1.0)
    x, y = model.images(8, threat, 0.1)
    x_adv = HopSkipJump(threat, early_stop=False)(classes_only(model), x, y)
    assert misclassified(model, x_adv, y).all()
    excess = threat.distance(x_adv, x) / 0.1
    assert excess.min() > 0.999 and excess.max() < 1.05


@NORMS
@pytest.mark.parametrize("queries", [1, 2, 14, 15, 16, 40, 137, 700])
def test_no_image_is_queried_more_often_than_the_budget(norm, queries):
    model = HalfSpace()
    x, y = model.images(6, norm(1.0), 0.1)
    for i in range(6):
        watched = Watched(model)
        HopSkipJump(norm(1.0), queries=queries, early_stop=False)(
            watched, x[i : i + 1], y[i : i + 1]
        )
        assert sum(map(len, watched.seen)) == queries
    together = Watched(model)
    HopSkipJump(norm(1.0), queries=queries, early_stop=False)(together, x, y)
    assert sum(map(len, together.seen)) == 6 * queries


@NORMS
def test_each_image_of_a_batch_has_the_whole_budget_to_itself(norm):
    # The images end at different numbers of halvings, so that their budgets run out at other times.
    model, threat = HalfSpace(), norm(1.0)
    near, y = model.images(4, threat, 0.02)
    x = torch.cat([near, model.images(4, threat, 0.3)[0]])
    y = torch.cat([y, y])
    victim = hop_skip_jump._Decisions(model, y, 50)
    rows = torch.tensor([1, 6])
    wrong, asked = victim.answers(x[rows, None].expand(-1, 30, -1, -1, -1), rows)
    assert asked.all() and not wrong.any()
    wrong, asked = victim.answers((1 - x)[rows, None].expand(-1, 30, -1, -1, -1), rows)
    assert asked.sum(1).tolist() == [20, 20] and torch.equal(wrong, asked)
    assert victim.left.tolist() == [50, 0, 50, 50, 50, 50, 0, 50]


@NORMS
def test_images_within_the_budget_stop_early(norm):
    model, threat = HalfSpace(), norm(0.1)
    near, y = model.images(8, threat, 0.07)
    far, _ = model.images(8, threat, 0.15)
    watched = Watched(model)
    x_adv = HopSkipJump(threat, queries=3000)(watched, torch.cat([near, far]), torch.cat([y, y]))
    assert misclassified(model, x_adv[:8], y).all()
    assert not misclassified(model, x_adv[8:], y).any()
    torch.testing.assert_close(threat.distance(x_adv[8:], far), torch.full((8,), 0.1))
    cost = sum(map(len, watched.seen)) - 8 * 3000
    assert 8 * 15 < cost < 8 * 1500
    assert len(watched.seen[-1]) <= 8 * 600


@NORMS
def test_an_image_misclassified_from_the_start_or_never_is_unchanged(norm):
    model, x = HalfSpace(), inner_images(4)
    wrong = 1 - model(x).argmax(1)
    watched = Watched(model)
    assert torch.equal(HopSkipJump(norm(1.0), queries=400)(watched, x, wrong), x)

    def constant(x):
        return torch.tensor([[1.0, 0.0]]).expand(len(x), 2)

    never = Watched(constant)
    zero = torch.zeros(4, dtype=torch.long)
    assert torch.equal(HopSkipJump(norm(1.0), queries=400)(never, x, zero), x)
    assert sum(map(len, never.seen)) == 4 * 15  # the image and 14 start images


@NORMS
def test_a_nearest_neighbour_classifier(norm):
    memory, labels = inner_images(40), torch.arange(40) % 2
    model, threat = Nearest(memory, labels), norm(2.0 if norm is L2 else 1.0)
    x, y = memory[:8], labels[:8]
    x_adv = HopSkipJump(threat, queries=5000, early_stop=False)(model, x, y)
    assert misclassified(model, x_adv, y).all()
    if norm is L2:
        # The nearest boundary is at least half of the way to the nearest image of the other class.
        other = torch.cdist(x.flatten(1), memory.flatten(1))
        other = torch.where(labels == y[:, None], math.inf, other).amin(1)
        excess = threat.distance(x_adv, x) / (other / 2)
        assert excess.min() > 0.999 and excess.median() < 1.3


@NORMS
def test_the_estimate_points_along_the_normal_of_a_plane(norm):
    model, threat = HalfSpace(), norm(1.0)
    x, y = model.images(8, threat, 1e-6)
    victim = hop_skip_jump._Decisions(model, y, 10**6)
    delta, rows = torch.full((8,), 0.01), torch.arange(8)
    estimate = HopSkipJump(threat)._estimate(victim, x, delta, rows, 4000, Rng.of_batch(1, 8))
    normal = model.w.detach() * (1 - 2 * y)[:, None, None, None]
    cosine = torch.nn.functional.cosine_similarity(estimate.flatten(1), normal.flatten(1))
    assert cosine.min() > 0.99
    assert (victim.left == 10**6 - 4000).all()


@pytest.mark.parametrize("offset", [-0.05, 0.05])
def test_the_baseline_keeps_the_direction_beside_the_boundary(offset):
    # Most neighbours have one class; without the mean of the answers their noise would dominate.
    model = HalfSpace()
    x, _ = model.images(2, L2(1.0), 0.0)
    x = x + offset * 0.2 * L2(1.0).normalize(model.w.detach()[None])
    y = torch.zeros(2, dtype=torch.long)
    victim = hop_skip_jump._Decisions(model, y, 10**6)
    delta, rows = torch.full((2,), 0.02), torch.arange(2)
    estimate = HopSkipJump(L2(1.0))._estimate(victim, x, delta, rows, 4000, Rng.of_batch(1, 2))
    cosine = torch.nn.functional.cosine_similarity(estimate.flatten(1), model.w.detach().flatten())
    assert cosine.min() > 0.97


def test_the_draws_do_not_depend_on_the_number_of_images_in_a_pass(monkeypatch):
    model, threat = HalfSpace(), L2(1.0)
    x, y = model.images(8, threat, 0.1)
    attack = HopSkipJump(threat, queries=600, early_stop=False)
    expected = attack(model, x, y)
    monkeypatch.setattr(hop_skip_jump, "MAX_VALUES", 250 * 16)  # two images, then one in a pass
    torch.testing.assert_close(attack(model, x, y), expected)


@pytest.mark.parametrize(
    "field", [{"queries": 0}, {"samples": 0}, {"gamma": 0.0}, {"gamma": math.inf}]
)
def test_arguments_out_of_range_raise(field):
    with pytest.raises(ValueError, match=f"{next(iter(field))}.* must be"):
        HopSkipJump(L2(0.1), **field)
