"""Attacks for the checks: random steps, and random images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from spearshield.adversary import Attack
from spearshield.losses.margin import margin_loss
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels

STEPS = 40
"""Steps of PGD, as in Madry et al., 2018, on MNIST."""
NOISE_SAMPLES = 100
"""Number of random images for each image; Carlini et al., 2019, try 10,000 or more."""


@dataclass(frozen=True)
class RandomSteps(Attack):
    """The steps of PGD, in random directions in place of the gradient."""

    gradient_free = True

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:  # noqa: ARG002
        x_adv = self.threat.random_start(x, rng)
        for k in range(STEPS):
            direction = rng.fold(k + 1).normal(x.shape[1:]).to(x)
            x_adv = self.threat.step(x_adv, x, direction, self.threat.eps / 10)
        return x_adv


@dataclass(frozen=True)
class Noise(Attack):
    """The image with the largest margin loss among a hundred random images in the ball."""

    gradient_free = True

    @torch.no_grad()
    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        x_adv, best = x.clone(), torch.full_like(x[:, 0, 0, 0], -math.inf)
        for k in range(NOISE_SAMPLES):
            noisy = self.threat.random_start(x, rng.fold(k))
            margin = margin_loss(model(noisy), y)
            x_adv = torch.where((margin > best)[:, None, None, None], noisy, x_adv)
            best = torch.maximum(margin, best)
        return x_adv
