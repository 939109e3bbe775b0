"""Two attacks that only the checks use."""

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
"""Random images tried for each image; Carlini et al., 2019, try 10,000 or more."""


@dataclass(frozen=True)
class MarginPGD(Attack):
    """PGD on the margin loss, whose gradient does not vanish where the victim is confident."""

    early_stop: bool = True

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        threat = self.threat
        x_adv = threat.project(x + threat.sample_perturbation(x, rng), x)
        left = torch.arange(len(x), device=x.device)
        for _ in range(STEPS):
            with torch.enable_grad():
                points = x_adv[left].requires_grad_()
                margin = margin_loss(model(points), y[left])
                (gradient,) = torch.autograd.grad(margin.sum(), points)
            if self.early_stop:
                left, gradient = left[margin < 0], gradient[margin < 0]
                if len(left) == 0:
                    break
            step = threat.eps / 10 * threat.steepest_step(gradient)
            x_adv[left] = threat.project(x_adv[left] + step, x[left])
        return x_adv


@dataclass(frozen=True)
class Noise(Attack):
    """The image with the largest margin loss among a hundred random images in the ball."""

    gradient_free = True

    @torch.no_grad()
    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        x_adv, best = x.clone(), torch.full_like(x[:, 0, 0, 0], -math.inf)
        for k in range(NOISE_SAMPLES):
            noisy = self.threat.project(x + self.threat.sample_perturbation(x, rng.fold(k)), x)
            margin = margin_loss(model(noisy), y)
            x_adv = torch.where((margin > best)[:, None, None, None], noisy, x_adv)
            best = torch.maximum(margin, best)
        return x_adv
