"""APE-GAN: the two losses on numbers worked by hand, and the number of updates."""

from __future__ import annotations

import math

import pytest
import torch

from fixtures.models import HalfSpace
from spearshield.attacks.fgsm import FGSM
from spearshield.losses.gan import bce
from spearshield.method import Task
from spearshield.methods.ape_gan import APEGAN, Generator
from spearshield.rng import Rng
from spearshield.threat import Linf


class Constant(torch.nn.Module):
    """A constant output, for every input."""

    def __init__(self, value, shape) -> None:
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor(value))
        self.shape = shape

    def forward(self, x):
        return self.value.expand(len(x), *self.shape)


def learner(**settings):
    model = HalfSpace().eval()
    task = Task(model, model, (1, 4, 4), 2, FGSM(Linf(0.1)))
    made = APEGAN(width=4, lr=0.0, **settings).learner(task)
    made.G, made.D = Constant(0.25, (1, 4, 4)), Constant(2.0, (1,))
    made.opt_g = torch.optim.SGD(made.G.parameters(), 0.5)
    made.opt_d = torch.optim.SGD(made.D.parameters(), 0.0)
    return made


X = torch.full((3, 1, 4, 4), 0.5)
Y = torch.tensor([0, 1, 0])


def test_bce_of_an_undecided_discriminator_is_log_two():
    assert float(bce(torch.zeros(3, 1), real=True)) == pytest.approx(math.log(2))
    assert float(bce(torch.full((3, 1), 2.0), real=False)) == pytest.approx(2.126928)


def test_both_losses_by_hand():
    losses = learner(generator_steps=1).step(X, Y, rng=Rng.of_batch(0, 3))
    up, down = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert losses["d"] == pytest.approx(up + down)
    # |0.25 - 0.5| on the [0, 1] scale is 0.5 on [-1, 1]; the root of its square is 0.5.
    assert losses["rmse"] == pytest.approx(0.5)
    assert losses["g"] == pytest.approx(0.9 * 0.5 + 0.02 * up)


def test_the_generator_moves_towards_the_clean_image_twice_a_step():
    # d(0.9 * sqrt(mse)) / d(x_hat) = -0.9 * 2 below the clean image, whatever the distance.
    made = learner(generator_steps=2, mse_weight=0.01)
    made.step(X, Y, rng=Rng.of_batch(0, 3))
    assert float(made.G.value.detach()) == pytest.approx(0.25 + 2 * 0.5 * 0.02)


def test_training_halves_the_error_of_purified_images():
    torch.manual_seed(0)
    model = HalfSpace().eval()
    made = APEGAN(width=8, lr=2e-3).learner(Task(model, model, (1, 4, 4), 2, FGSM(Linf(0.2))))
    x = 0.2 + 0.6 * torch.rand(32, 1, 4, 4)
    y = model(x).argmax(1)
    first = made.step(x, y, rng=Rng.of_batch(0, 32))["rmse"]
    for _ in range(60):
        last = made.step(x, y, rng=Rng.of_batch(0, 32))["rmse"]
    assert last < 0.5 * first


@pytest.mark.parametrize("size", [(4, 4), (7, 5), (28, 28), (30, 33)])
def test_the_generator_keeps_the_size(size):
    x = torch.rand(2, 3, *size)
    x_hat = Generator(3, 4).eval()(x)
    assert x_hat.shape == x.shape and x_hat.min() >= 0 and x_hat.max() <= 1


@pytest.mark.parametrize("setting", [{"width": 0}, {"mse_weight": -1.0}, {"generator_steps": 0}])
def test_settings_out_of_range_raise(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        APEGAN(**setting)
