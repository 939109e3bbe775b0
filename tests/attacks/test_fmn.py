"""FMN: exact on a plane, its radii by hand, and the nearest misclassified iterate."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from fixtures.models import Affine, HalfSpace, Watched, dual_exponent, every_image, inner_images
from spearshield.adversary import misclassified
from spearshield.attacks.fmn import FMN
from spearshield.rng import Rng
from spearshield.threat import L2, Linf

NORMS = pytest.mark.parametrize("norm", [Linf, L2])


def decay(first, last, step, steps):
    """Half a cosine from ``first`` to ``last``."""
    return last + (first - last) * (1 + math.cos(math.pi * step / steps)) / 2


@NORMS
def test_the_exact_distance_of_a_plane(norm):
    model, threat = HalfSpace(), norm(1.0)
    x, y = model.images(8, threat, 0.1)
    x_adv = FMN(threat)(model, x, y)
    assert misclassified(model, x_adv, y).all()
    torch.testing.assert_close(threat.distance(x_adv, x), torch.full((8,), 0.1), rtol=1e-3, atol=0)


@NORMS
def test_the_distance_of_most_images_of_an_affine_classifier(norm):
    # The attack stays at the first boundary that it reaches, which is not always the nearest.
    model, x, threat = Affine(10), inner_images(64), norm(1.0)
    y = model(x).argmax(1)
    x_adv = FMN(threat)(model, x, y)
    assert misclassified(model, x_adv, y).all()
    excess = threat.distance(x_adv, x) / model.distance(x, threat)
    assert excess.min() > 1 - 1e-4
    assert excess.median() < 1.001 and excess.mean() < 1.05


@NORMS
def test_the_exact_distance_where_pixels_cannot_move(norm):
    model, y = HalfSpace(), torch.zeros(1, dtype=torch.long)
    x = torch.where(model.w > 0, 0.2, 0.0).detach()[None]
    movable = model.w.detach().clamp(min=0)
    exact = model.margin(x).detach().abs() / movable.flatten().norm(dual_exponent(norm))
    x_adv = FMN(every_image(norm, x), steps=200)(model, x, y)
    assert misclassified(model, x_adv, y).all()
    torch.testing.assert_close(every_image(norm, x).distance(x_adv, x), exact, rtol=5e-3, atol=0)


@NORMS
def test_the_radii_by_hand(norm):
    model, threat, steps = HalfSpace(), norm(1.0), 6
    x, y = model.images(4, threat, 0.1)
    watched = Watched(model)
    FMN(threat, steps=steps, gamma=0.08, step_size=10.0)(watched, x, y)
    seen = [threat.distance(image, x) for image in watched.seen]
    assert len(seen) == 1 + steps + 1  # plus the clean image and the last iterate
    # Steps this long end on the sphere, whose radius oscillates around the boundary's distance.
    radius = nearest = 0.1 * (1 + decay(0.08, 1e-4, 0, steps))
    for step in range(1, steps + 1):
        torch.testing.assert_close(seen[step + 1], torch.full((4,), radius))
        gamma = decay(0.08, 1e-4, step, steps)
        if radius > 0.1:
            nearest = min(nearest, radius)
            radius = min(radius * (1 - gamma), nearest)
        else:
            radius = radius * (1 + gamma)


@NORMS
def test_the_step_size_decreases_on_half_a_cosine(norm):
    model = HalfSpace((1, 28, 28))
    model.b.data += 1e6  # a boundary so far away that no ball limits the steps
    x, y = torch.full((1, 1, 28, 28), 0.5), torch.tensor([0])
    watched = Watched(model)
    FMN(norm(1.0), steps=4, step_size=0.1)(watched, x, y)
    lengths = [float((b - a).norm()) for a, b in itertools.pairwise(watched.seen[1:6])]
    assert lengths == pytest.approx([decay(0.1, 0.001, step, 4) for step in range(4)], rel=1e-3)


@pytest.mark.parametrize(("norm", "length"), [(Linf, 10.0), (L2, 1.0)])
def test_the_default_length_of_the_first_step(norm, length):
    model, x = Affine(10), inner_images(64)
    y = model(x).argmax(1)
    given = FMN(norm(1.0), steps=9, step_size=length)(model, x, y)
    assert torch.equal(FMN(norm(1.0), steps=9)(model, x, y), given)
    assert not torch.equal(FMN(norm(1.0), steps=9, step_size=3.0)(model, x, y), given)


@NORMS
def test_the_nearest_misclassified_iterate_is_returned(norm):
    model, x, threat = Affine(10), inner_images(64), norm(1.0)
    y = model(x).argmax(1)
    watched = Watched(model)
    x_adv = FMN(threat, steps=20)(watched, x, y)
    distances = torch.stack(
        [
            torch.where(misclassified(model, seen, y), threat.distance(seen, x), math.inf)
            for seen in watched.seen
        ]
    )
    # A sum of 16 squares depends on the order of summation by up to 16 float32 epsilons, and the
    # order is the processor's choice. Distances of different iterates differ by 1e-4 or more.
    torch.testing.assert_close(threat.distance(x_adv, x), distances.amin(0), rtol=2e-6, atol=0)


class Scripted:
    """Two classes with the given margins, one for each call, and a constant gradient.

    Calls after the last margin repeat it.
    """

    def __init__(self, *margins):
        self.margins, self.seen = list(margins), []

    def __call__(self, x):
        self.seen.append(x.detach().clone())
        total = x.flatten(1).sum(1)
        score = self.margins[min(len(self.seen), len(self.margins)) - 1] + total - total.detach()
        return torch.stack([torch.zeros_like(score), score], 1)


MIDDLE, ZERO = torch.full((1, 1, 4, 4), 0.5), torch.tensor([0])


@NORMS
def test_a_farther_success_does_not_replace_a_nearer_one(norm):
    model = Scripted(-1, -1, 1, -1, -1, -1, -1, 1)
    x_adv = FMN(norm(1.0), steps=6, gamma=0.5)(model, MIDDLE, ZERO)
    near, far = (norm(1.0).distance(model.seen[i], MIDDLE) for i in (2, 7))
    assert far > near
    assert torch.equal(x_adv, model.seen[2])


@NORMS
def test_before_the_first_success_no_radius_shrinks(norm):
    # The second linearisation predicts a much nearer boundary, which does not exist.
    model = Scripted(-1, -1, -1e-3, -1e-3)
    FMN(norm(1.0), steps=2, step_size=0.01)(model, MIDDLE, ZERO)
    distance = (model.seen[3] - MIDDLE).norm()
    assert float(distance) == pytest.approx(0.01 + decay(0.01, 1e-4, 1, 2), rel=1e-3)


@NORMS
def test_farther_than_eps_it_is_projected(norm):
    model, threat = HalfSpace(), norm(0.1)
    x, y = model.images(4, threat, 0.2)
    x_adv = FMN(threat)(model, x, y)
    torch.testing.assert_close(threat.distance(x_adv, x), torch.full((4,), 0.1))
    left = model.distance(x_adv, threat).detach()
    torch.testing.assert_close(left, torch.full((4,), 0.1), rtol=0.01, atol=0)


@NORMS
def test_without_gradient_it_starts_from_a_far_image(norm):
    """The other class has a mean above 0.65; below it the gradient is zero."""

    def plateau(x):
        mean = x.flatten(1).mean(1)
        margin = torch.where(mean > 0.65, mean - 0.64, 0 * mean - 1)
        return torch.stack([0 * margin, margin], 1)

    x, y = torch.full((3, 1, 4, 4), 0.3), torch.zeros(3, dtype=torch.long)
    threat = every_image(norm, x)
    x_adv = FMN(threat, step_size=0.05)(plateau, x, y)
    assert misclassified(plateau, x_adv, y).all()
    nearest = threat.distance(torch.full_like(x, 0.65), x)
    assert (threat.distance(x_adv, x) < 1.1 * nearest).all()


@NORMS
def test_a_far_start_finds_a_nearer_boundary_that_no_gradient_leads_to(norm):
    """One class begins at a mean below 0.02; another, without a slope, at a mean above 0.45."""

    def two_sides(x):
        mean = x.flatten(1).mean(1)
        plateau = torch.where(mean > 0.45, mean - 0.44, 0 * mean - 1)
        return torch.stack([0 * mean, 0.02 - mean, plateau], 1)

    x, y = torch.full((3, 1, 4, 4), 0.4), torch.zeros(3, dtype=torch.long)
    nearest = norm(1.0).distance(torch.full_like(x, 0.45), x)
    threat = norm(1.2 * float(nearest[0]))
    broken = [
        misclassified(two_sides, FMN(threat, step_size=0.05, restarts=n)(two_sides, x, y), y)
        for n in (1, 2)
    ]
    assert not broken[0].any()
    assert broken[1].all()


@NORMS
def test_random_far_images_follow_from_the_rng(norm):
    """The other class has a mean near 0.5, and no slope; the negative image is not in it."""

    def band(x):
        mean = x.flatten(1).mean(1)
        margin = torch.where((mean - 0.5).abs() < 0.05, 0 * mean + 1, 0 * mean - 1)
        return torch.stack([0 * mean, margin], 1)

    x, y = torch.full((3, 1, 7, 7), 0.3), torch.zeros(3, dtype=torch.long)
    first, again, other = (
        FMN(every_image(norm, x), steps=1)(band, x, y, rng=Rng.of_batch(seed, 3))
        for seed in (1, 1, 2)
    )
    assert misclassified(band, first, y).all()
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])
    assert torch.equal(FMN(every_image(norm, x), restarts=1)(band, x, y), x)


def test_an_image_without_success_is_returned_unchanged():
    x, model = inner_images(64), Affine(3)
    y = torch.zeros(len(x), dtype=torch.long)
    for logits in (torch.tensor([1.0, 0.0]), torch.zeros(2)):
        x_adv = FMN(L2(2.0), steps=3)(lambda x: logits + 0 * x.flatten(1)[:, :2], x, y)  # noqa: B023
        assert torch.equal(x_adv, x)
    wrong = (model(x).argmax(1) + 1) % 3
    assert torch.equal(FMN(L2(2.0))(model, x, wrong), x)


@pytest.mark.parametrize(
    "field",
    [
        {"steps": 0},
        {"step_size": 0.0},
        {"step_size": -1.0},
        {"gamma": 0.0},
        {"gamma": 1.0},
        {"restarts": 0},
    ],
)
def test_arguments_out_of_range_raise(field):
    with pytest.raises(ValueError, match=f"{next(iter(field))}.* must be"):
        FMN(L2(1.0), **field)
