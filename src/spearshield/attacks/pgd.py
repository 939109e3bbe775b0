"""PGD: projected gradient descent with random restarts.

Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards Deep Learning Models Resistant to Adversarial
Attacks", 2018. https://arxiv.org/abs/1706.06083
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from spearshield.adversary import Attack, loss_gradient, until_misclassified
from spearshield.losses.margin import LOSSES
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels


@dataclass(frozen=True)
class PGD(Attack):
    """Steepest-ascent steps on a loss, each followed by a projection into the threat model.

    Args:
        steps: Number of gradient steps in each run.
        step_size: Length of a step in the norm of ``threat``, on the [0, 1] pixel scale; ``None``:
            ``eps / 10``.
        restarts: Maximum number of runs for each image. An image that one run has broken is not
            attacked again.
        random_start: Start at a random point of the ball instead of the clean image.
        early_stop: Stop each image at its first misclassified iterate, and return an image that is
            misclassified from the start unchanged. Otherwise every image takes every step, and the
            result is the last iterate of the first run that broke the image, or of the last run.
        loss: ``cross_entropy``, ``margin`` (highest other logit minus the true one) or ``dlr``
            (difference of logits ratio, at least three classes). The last two keep a gradient
            where the model is very confident.

    Raises:
        ValueError: ``steps``, ``restarts`` or ``step_size`` is not positive, or ``loss`` is
            unknown; when called: the model has too few classes for ``loss``.
    """

    steps: int = 40
    step_size: float | None = None
    restarts: int = 1
    random_start: bool = True
    early_stop: bool = True
    loss: Literal["cross_entropy", "margin", "dlr"] = "cross_entropy"

    def __post_init__(self) -> None:
        require(self, "steps", "restarts", at_least=1)
        require(self, "step_size", above=0)
        require(self, "loss", one_of=LOSSES)

    @property
    def display_name(self) -> str:
        """``pgd``, with the loss if it is not the cross-entropy."""
        return "pgd" if self.loss == "cross_entropy" else f"pgd_{self.loss}"

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        x_adv, first = x.clone(), 0
        if not (self.early_stop and self.random_start):  # else the clean image is tested first
            x_adv, first = self._run(model, x, y, rng.fold(0)), 1
        for restart, left in until_misclassified(range(first, self.restarts), model, x_adv, y):
            x_adv[left] = self._run(model, x[left], y[left], rng[left].fold(restart))
        return x_adv

    def _run(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        step_size = self.threat.eps / 10 if self.step_size is None else self.step_size
        x_adv = self.threat.random_start(x, rng) if self.random_start else x.clone()
        finished, left = torch.empty_like(x), torch.arange(len(x), device=x.device)
        for _ in range(self.steps):
            _, gradient, wrong = loss_gradient(model, x_adv, y, LOSSES[self.loss])
            if self.early_stop and wrong.any():
                finished[left] = x_adv
                left, gradient, x_adv, x, y = (v[~wrong] for v in (left, gradient, x_adv, x, y))
                if len(left) == 0:
                    break
            x_adv = self.threat.step(x_adv, x, gradient, step_size)
        finished[left] = x_adv
        return finished
