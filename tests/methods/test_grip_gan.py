"""GRIP-GAN: noise of every strength up to the largest, and no attack."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mutations import fails_under
from spearshield.method import Task
from spearshield.methods.grip_gan import GRIPGAN
from spearshield.nets.inverse_perturbation import Fusion
from spearshield.rng import Rng, ambient

SHAPE = (1, 8, 8)


class Seen(nn.Module):
    """An inverse perturbation of zero, which keeps the images."""

    def __init__(self) -> None:
        super().__init__()
        self.zero = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        self.x = x
        return self.zero * x


def learner(**settings):
    with ambient(0):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval()
        nn.init.zeros_(model[1].weight)
        nn.init.zeros_(model[1].bias)
        return GRIPGAN(**{"width": 4, "blocks": 1, **settings}).learner(
            Task(model, model, SHAPE, 2)
        )


@fails_under(
    "noise of one strength", (Rng, "uniform", lambda self, shape: torch.ones(200, 1, 1, 1))
)
def test_the_strength_of_the_noise_is_uniform_up_to_the_largest():
    trained = learner(noise=0.2)
    trained.G = Fusion(Seen())
    trained.opt_g = torch.optim.SGD(trained.G.parameters(), 0.0)
    x, y = torch.full((200, *SHAPE), 0.5), torch.arange(200) % 2
    trained.step(x, y, rng=Rng.of_batch(0, 200))
    strengths = (trained.G.generator.x - 0.5).flatten(1).std(1)
    assert strengths.max() < 0.25 and strengths.max() > 0.17 and strengths.min() < 0.03
    assert float(strengths.mean()) == pytest.approx(0.1, abs=0.015)


def test_the_losses_of_a_purifier_that_does_nothing_without_noise():
    trained = learner(noise=0.0, lr=0.0, adversarial_weight=0.0, logit_weight=2.0)
    x, y = torch.full((4, *SHAPE), 0.5), torch.arange(4) % 2
    losses = trained.step(x, y, rng=Rng.of_batch(0, 4))
    assert losses["g"] == pytest.approx(2 * math.log(2))


def test_training_lowers_the_error_of_noisy_images():
    trained = learner(noise=0.3, lr=3e-3, logit_weight=0.0, adversarial_weight=0.0)
    x = (torch.rand(64, *SHAPE, generator=torch.Generator().manual_seed(0)) > 0.7).float()
    y = torch.arange(64) % 2
    first = trained.step(x, y, rng=Rng.of_batch(0, 64))["g"]
    for step in range(80):
        last = trained.step(x, y, rng=Rng.of_batch(0, 64).fold(step))["g"]
    assert last < 0.7 * first


@pytest.mark.parametrize("setting", [{"noise": -1.0}, {"blocks": 0}, {"pixel_weight": -1.0}])
def test_settings_out_of_range_raise(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        GRIPGAN(**setting)
