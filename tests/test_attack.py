"""What the attacks share: the door, the gradient, and the way back into the threat model."""

from __future__ import annotations

import math

import pytest
import torch

from analytic import HalfSpace
from spearshield.attack import check_gradient, check_images, fooled, loss_gradient, within
from spearshield.rng import Rng
from spearshield.threat import L2, Linf


def test_the_gradient_is_of_each_images_own_loss():
    # Cross-entropy of logits (-m, m): its gradient is 2 sigmoid(2 m) w for class 0.
    model = HalfSpace()
    x = Rng.of_batch(0, 3).uniform((1, 4, 4))
    gradient, wrong = loss_gradient(model, x, torch.zeros(3).long())
    margin = model.margin(x).detach()
    expected = 2 * torch.sigmoid(2 * margin)[:, None, None, None] * model.w.detach()
    torch.testing.assert_close(gradient, expected)
    assert torch.equal(wrong, margin > 0)


def test_fooled_compares_with_the_label():
    x = torch.tensor([0.1, 0.9]).reshape(2, 1, 1, 1)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1, 2))
    model[1].weight.data, model[1].bias.data = torch.tensor([[0.0], [2.0]]), torch.tensor([1.0, 0])
    assert fooled(model, x, torch.tensor([0, 0])).tolist() == [False, True]


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5)], ids=str)
def test_within_leaves_what_is_allowed_alone_to_the_bit(threat):
    x = Rng.of_batch(0, 64).uniform((1, 4, 4), 0.0, 0.01)
    x_adv = Rng.of_batch(1, 64).uniform((1, 4, 4), 0.02, 0.08)
    assert not torch.equal(threat.project(x_adv, x), x_adv)  # for it rounds
    assert torch.equal(within(threat, x_adv, x), x_adv)


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5)], ids=str)
def test_within_projects_the_rest(threat):
    x = Rng.of_batch(0, 64).uniform((1, 4, 4))
    x_adv = 1 - x
    assert torch.equal(within(threat, x_adv, x), threat.project(x_adv, x))


def test_the_door_names_the_image_and_the_range():
    x = torch.full((3, 1, 2, 2), 0.5)
    check_images(x)
    x[1] = torch.tensor([[0.0, 255.0], [3.0, 4.0]])
    with pytest.raises(ValueError, match=r"image 1 has pixels from 0 to 255.*divide"):
        check_images(x)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_refused(value):
    gradient = torch.zeros(3, 1, 2, 2)
    check_gradient(gradient)
    gradient[2, 0, 1, 1] = value
    with pytest.raises(ValueError, match="gradient at image 2 "):
        check_gradient(gradient)
