"""Guided attacks: a network that receives the gradient of the model makes the perturbation.

Jiang, Chen, Shi, Dai, Zhao, "Learning to Defend by Learning to Attack", 2021.
https://proceedings.mlr.press/v130/jiang21a.html
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from spearshield.adversary import Attack, loss_gradient
from spearshield.inputs import placed
from spearshield.losses.margin import LOSSES
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels


@dataclass(frozen=True)
class GuidedAttack(Attack):
    """The perturbations of a network that sees the image and the gradient of the model's loss.

    Each call adds a perturbation to the sum of those before it, with the gradient at the image so
    far; the sum is projected into ``threat``. One call takes one gradient of the model.

    Args:
        network: Maps images in [0, 1] and gradients in [-1, 1], both of shape (n, c, h, w), to
            perturbations in [-1, 1], in units of eps.
        calls: Number of calls of the network.

    Raises:
        ValueError: ``calls`` is below 1. When called: the network is in training mode.
    """

    network: nn.Module
    calls: int = 1

    def __post_init__(self) -> None:
        require(self, "calls", at_least=1)

    @torch.no_grad()
    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:  # noqa: ARG002
        if any(module.training for module in self.network.modules()):
            raise ValueError("the attack's network is in training mode; call .eval() on it first")
        return self.images(model, x, y)

    def images(self, model: Classifier, x: Images, y: Labels) -> Images:
        """The adversarial images, differentiable in the weights of the network."""
        x_adv = x
        for _ in range(self.calls):
            _, gradient, _ = loss_gradient(model, x_adv, y, LOSSES["cross_entropy"])
            largest = gradient.abs().amax((1, 2, 3), keepdim=True)
            scaled = gradient / largest.clamp(min=torch.finfo(gradient.dtype).tiny)
            given = (placed(images, self.network) for images in (x_adv, scaled))
            delta = self.threat.eps * self.network(*given).to(x)
            x_adv = self.threat.project(x_adv + delta, x)
        return x_adv
