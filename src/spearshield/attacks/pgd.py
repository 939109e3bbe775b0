"""PGD: projected gradient descent with random restarts.

Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards Deep Learning Models Resistant to Adversarial
Attacks", 2018. https://arxiv.org/abs/1706.06083
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from spearshield.attack import Attack, fooled, loss_gradient
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels


@dataclass(frozen=True)
class PGD(Attack):
    """Repeated steepest-ascent steps on the cross-entropy, each projected back.

    Args:
        steps: Gradient steps in each restart.
        step_size: Length of a step in the norm of ``threat``, on the [0, 1] scale; ``None``: a
            tenth of ``eps``.
        restarts: Starts per image, at most; an image that has been broken is not started again.
        random_start: Start at a random point of the ball rather than at the clean image.
        early_stop: An image leaves as soon as the model errs on it, with the first iterate that
            does. Off: every image takes every step, and the last iterate is returned, or of
            several restarts the first one that fooled the model.

    Raises:
        ValueError: ``steps`` or ``restarts`` is not positive, or ``step_size`` is.
    """

    steps: int = 40
    step_size: float | None = None
    restarts: int = 1
    random_start: bool = True
    early_stop: bool = True

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise ValueError(
                f"steps and restarts must be at least 1, got {self.steps} and {self.restarts}"
            )
        if self.step_size is not None and not self.step_size > 0:
            raise ValueError(f"step_size must be positive, got {self.step_size}")

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        best = x.clone()
        left = torch.arange(len(x), device=x.device)
        for restart in range(self.restarts):
            x_adv = self._climb(model, x[left], y[left], rng[left].fold(restart))
            best[left] = x_adv
            if restart + 1 < self.restarts:
                left = left[~fooled(model, x_adv, y[left])]
                if len(left) == 0:
                    break
        return best

    def _climb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        threat = self.threat
        size = threat.eps / 10 if self.step_size is None else self.step_size
        x_adv = (
            threat.project(x + threat.sample_perturbation(x, rng), x)
            if self.random_start
            else x.clone()
        )
        left = torch.arange(len(x), device=x.device)
        for _ in range(self.steps):
            gradient, wrong = loss_gradient(model, x_adv[left], y[left])
            if self.early_stop:
                left, gradient = left[~wrong], gradient[~wrong]
                if len(left) == 0:
                    break
            x_adv[left] = threat.project(
                x_adv[left] + size * threat.steepest_step(gradient), x[left]
            )
        return x_adv
