"""GAN losses and penalties against values by hand and closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from mutations import fails_under
from spearshield.losses.gan import bce, gradient_penalty, least_squares, wasserstein
from spearshield.rng import Rng

REAL = torch.linspace(0.1, 0.9, 24).reshape(3, 2, 2, 2)
FAKE = REAL.flip(0) ** 2


def test_bce_is_the_negative_logarithm_of_the_probability_of_the_label():
    logits = torch.tensor([0.0, math.log(3)])  # probabilities of real: 1/2 and 3/4
    assert float(bce(logits, real=True)) == pytest.approx(-(math.log(0.5) + math.log(0.75)) / 2)
    assert float(bce(logits, real=False)) == pytest.approx(-(math.log(0.5) + math.log(0.25)) / 2)


def test_least_squares_is_the_mean_squared_difference_to_the_label():
    scores = torch.tensor([0.5, 3.0])
    assert float(least_squares(scores, real=True)) == pytest.approx((0.25 + 4) / 2)
    assert float(least_squares(scores, real=False)) == pytest.approx((0.25 + 9) / 2)


def test_wasserstein_is_the_difference_of_the_means():
    assert float(wasserstein(torch.tensor([1.0, 4.0]), torch.tensor([-1.0, 0.0]))) == 3.0


def norm_of_columns(gradient, dim, norm=torch.linalg.vector_norm):
    return norm(gradient.reshape(len(gradient), -1, 4), dim=1) if dim == 1 else norm(gradient)


@fails_under(
    "gradient norm of each column of pixels", (torch.linalg, "vector_norm", norm_of_columns)
)
def test_the_penalty_of_a_linear_critic():
    weight = torch.tensor([[[3.0, 0.0], [0.0, 4.0]], [[12.0, 0.0], [0.0, 0.0]]])  # of norm 13
    weight.requires_grad_()
    penalty = gradient_penalty(
        lambda x: (x * weight).flatten(1).sum(1), REAL, FAKE, Rng.of_batch(0, 3)
    )
    assert float(penalty.detach()) == pytest.approx((13 - 1) ** 2)
    # d (|w| - 1)^2 / dw = 2 (|w| - 1) w / |w|
    (gradient,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(gradient, 2 * 12 / 13 * weight.detach())


def test_the_point_between_the_images_depends_on_the_rng_of_each_image():
    def critic(x):
        return x.square().flatten(1).sum(1, keepdim=True)  # a gradient of 2 x

    def penalty(rows):
        return gradient_penalty(critic, REAL[rows], FAKE[rows], Rng.of_batch(5, 3)[rows])

    each = torch.stack([penalty(slice(i, i + 1)) for i in range(3)])
    torch.testing.assert_close(penalty(slice(0, 3)), each.mean())
    # The shares differ between images.
    share = Rng.of_batch(5, 3).uniform(())
    assert len(share.unique()) == 3
    between = REAL + share[:, None, None, None] * (FAKE - REAL)
    torch.testing.assert_close(each, (2 * between.flatten(1).norm(dim=1) - 1) ** 2)


def test_the_penalty_has_no_gradient_for_the_images():
    fake = FAKE.clone().requires_grad_()
    weight = torch.ones(2, 2, 2, requires_grad=True)
    penalty = gradient_penalty(
        lambda x: (x * weight).sum((1, 2, 3)), REAL, fake, Rng.of_batch(0, 3)
    )
    penalty.backward()
    assert fake.grad is None and not REAL.requires_grad
