"""DAE: the corruption of images, and its removal."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from fixtures.models import HalfSpace
from spearshield.adversary import Attack
from spearshield.method import Task
from spearshield.methods.dae import DAE, Autoencoder
from spearshield.rng import Rng
from spearshield.threat import Linf


@dataclass(frozen=True)
class Black(Attack):
    def perturb(self, model, x, y, rng):
        return torch.zeros_like(x)


def learner(**settings):
    model = HalfSpace().eval()
    return DAE(width=4, **settings).learner(Task(model, model, (1, 4, 4), 2, Black(Linf(1.0))))


X = torch.full((400, 1, 4, 4), 0.5)
Y = torch.zeros(400, dtype=torch.long)


def test_the_standard_deviation_of_the_noise():
    noise = learner(noise=0.1).corrupt(X, Y, Rng.of_batch(0, 400)) - X
    assert float(noise.std()) == pytest.approx(0.1, rel=0.03)
    assert abs(float(noise.mean())) < 0.005


def test_a_share_of_attacked_images_needs_an_attack_from_the_start():
    model = HalfSpace().eval()
    with pytest.raises(ValueError, match="set learn_from of its training"):
        DAE(width=4, attack_share=0.5).learner(Task(model, model, (1, 4, 4), 2))


def test_noisy_images_are_in_range():
    noisy = learner(noise=3.0).corrupt(X, Y, Rng.of_batch(0, 400))
    assert noisy.min() == 0 and noisy.max() == 1


def test_the_share_of_attacked_images():
    noisy = learner(noise=0.1, attack_share=0.25).corrupt(X, Y, Rng.of_batch(0, 400))
    black = (noisy == 0).flatten(1).all(1)
    assert 0.2 < float(black.float().mean()) < 0.3


def test_settings_out_of_range_raise():
    with pytest.raises(ValueError, match="attack_share must be at most 1, got 1.5"):
        DAE(attack_share=1.5)
    with pytest.raises(ValueError, match="noise must be at least 0, got -1"):
        DAE(noise=-1.0)


def test_training_removes_noise():
    torch.manual_seed(0)
    made = learner(noise=0.3)
    x = torch.rand(32, 1, 1, 1).expand(32, 1, 4, 4).contiguous()
    for step in range(150):
        last = made.step(x, Y[:32], rng=Rng.of_batch(0, 32).fold(step))["mse"]
    assert last < 0.5 * 0.3**2


@pytest.mark.parametrize("size", [(4, 4), (7, 5), (28, 28)])
def test_the_autoencoder_keeps_the_size(size):
    x = torch.rand(2, 3, *size)
    assert Autoencoder(3, 4).eval()(x).shape == x.shape
