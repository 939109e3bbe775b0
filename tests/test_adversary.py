"""The parts that attacks share: argument checks, gradients, restarts, linearisation, projection."""

from __future__ import annotations

import pytest
import torch

from fixtures.models import L1, Affine, HalfSpace
from spearshield.adversary import (
    linearise,
    loss_gradient,
    misclassified,
    unbroken,
    within,
)
from spearshield.losses.margin import cross_entropy
from spearshield.rng import Rng
from spearshield.threat import L2, Linf


def test_loss_and_gradient_of_each_image():
    # Cross-entropy of logits (-m, m) for class 0: softplus(2 m), with gradient 2 sigmoid(2 m) w.
    model = HalfSpace()
    x = Rng.of_batch(0, 3).uniform((1, 4, 4))
    loss, gradient, wrong = loss_gradient(model, x, torch.zeros(3).long(), cross_entropy)
    margin = model.margin(x).detach()
    torch.testing.assert_close(loss, torch.nn.functional.softplus(2 * margin))
    expected = 2 * torch.sigmoid(2 * margin)[:, None, None, None] * model.w.detach()
    torch.testing.assert_close(gradient, expected)
    assert torch.equal(wrong, margin > 0)


def test_a_broken_image_is_not_attacked_again():
    strength = torch.tensor([2, 0, 3, 9])  # the number of runs that each image withstands
    runs = torch.zeros(4, dtype=torch.long)
    seen = []
    x = torch.zeros(4, 1, 1, 1)
    for run, left in unbroken("abcd", x, lambda left: runs[left] >= strength[left]):
        seen.append((run, left.tolist()))
        runs[left] += 1
    assert seen == [("a", [0, 2, 3]), ("b", [0, 2, 3]), ("c", [2, 3]), ("d", [3])]


def test_runs_end_when_no_image_is_left():
    x = torch.zeros(2, 1, 1, 1)
    assert list(unbroken(range(3), x, lambda left: torch.ones_like(left).bool())) == []
    assert len(list(unbroken(range(3), x, None))) == 3


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5), L1(1.0)], ids=str)
def test_linearising_an_affine_model_gives_its_exact_distances(threat):
    model, x = Affine(4), Rng.of_batch(0, 6).uniform((1, 4, 4), 0.3, 0.7)
    y = model(x).argmax(1)
    others = torch.arange(4).expand(6, 4)
    linearised = linearise(model, x, y, lambda logits: others)
    assert linearised.gradients.shape == (6, 4, 1, 4, 4)
    distances = linearised.distances(threat)
    assert distances.gather(1, y[:, None]).isinf().all()  # the difference to itself has no gradient
    distance, difference, gradient = linearised.nearest(threat)
    torch.testing.assert_close(distance, model.distance(x, threat))
    torch.testing.assert_close(distance, difference.abs() / threat.dual_norm(gradient))


def test_misclassified_compares_with_the_label():
    x = torch.tensor([0.1, 0.9]).reshape(2, 1, 1, 1)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1, 2))
    model[1].weight.data, model[1].bias.data = torch.tensor([[0.0], [2.0]]), torch.tensor([1.0, 0])
    assert misclassified(model, x, torch.tensor([0, 0])).tolist() == [False, True]


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5)], ids=str)
def test_within_returns_allowed_images_unchanged(threat):
    x = Rng.of_batch(0, 64).uniform((1, 4, 4), 0.0, 0.01)
    x_adv = Rng.of_batch(1, 64).uniform((1, 4, 4), 0.02, 0.08)
    assert not torch.equal(threat.project(x_adv, x), x_adv)  # because it rounds
    assert torch.equal(within(threat, x_adv, x), x_adv)


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5)], ids=str)
def test_within_projects_other_images(threat):
    x = Rng.of_batch(0, 64).uniform((1, 4, 4))
    x_adv = 1 - x
    assert torch.equal(within(threat, x_adv, x), threat.project(x_adv, x))
