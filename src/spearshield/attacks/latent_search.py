"""Latent search: an image in the range of the purifier's generator that the classifier gets wrong.

A purifier that answers with the nearest generated image gives such an image back as it is, however
well it searches.

Athalye, Carlini, Wagner, "Obfuscated Gradients Give a False Sense of Security: Circumventing
Defenses to Adversarial Examples", 2018. https://arxiv.org/abs/1802.00420
Jalal, Ilyas, Daskalakis, Dimakis, "The Robust Manifold Defense: Adversarial Training using
Generative Models", 2017. https://arxiv.org/abs/1712.09196 (there, the overpowered attack)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spearshield.attack import Attack, check_gradient, fooled
from spearshield.losses.margin import margin_loss
from spearshield.method import Defended, Generates
from spearshield.rng import Rng
from spearshield.types import Classifier, Column, Images, Labels, PerImage

RATE = 1.05
"""Factor by which the weight of the budget grows with each step outside it, and shrinks inside."""
NEAR = 0.05
"""What a generated image may be outside of the budget to count as inside, as a share of ``eps``."""


@dataclass(frozen=True)
class LatentSearch(Attack):
    """Adam on the latent: up the margin loss, with a weight on what lies outside of the budget.

    It sets out from the latents that the purifier itself finds for the clean image. The weight
    grows while the generated image is outside of the budget and shrinks while it is inside, so the
    search follows the border. Submitted is the generated image of highest margin that was inside,
    or the nearest, moved into the budget. An image leaves when the whole model errs on it.

    A model whose purifier does not :class:`~spearshield.method.Generates` is searched among all
    images.

    Args:
        steps: Of Adam, in each restart.
        lr: Learning rate, in units of the latent.
        restarts: Starts per image, at most; an image that has been broken is not started again.
        confidence: Margin, in logits, beyond which the class is wrong enough.

    Raises:
        ValueError: ``steps``, ``lr`` or ``restarts`` is not positive, or ``confidence`` negative.
    """

    steps: int = 500
    lr: float = 0.05
    restarts: int = 4
    confidence: float = 5.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise ValueError(
                f"steps and restarts must be at least 1, got {self.steps} and {self.restarts}"
            )
        if not self.lr > 0 or not self.confidence >= 0:
            raise ValueError(
                "lr must be positive and confidence at least 0, "
                f"got {self.lr} and {self.confidence}"
            )

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        best = x.clone()
        left = (~fooled(model, x, y)).nonzero().squeeze(1)
        for restart in range(self.restarts):
            if len(left) == 0:
                break
            best[left] = self._search(model, x[left], y[left], rng[left].fold(restart))
            left = left[~fooled(model, best[left], y[left])]
        return best

    def _search(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        generate, classify, z = _opened(model, x, rng)
        z = z.detach().requires_grad_()
        adam = torch.optim.Adam([z], self.lr)
        weight, best = torch.ones_like(x[:, :1, :1, :1]), x.clone()
        highest, nearest = torch.full_like(weight, -math.inf), torch.full_like(weight, math.inf)
        for _ in range(self.steps):
            with torch.enable_grad():
                made = generate(z)
                margin = margin_loss(classify(made), y)
                outside = self._outside(made, x)
                loss = (weight.flatten() * outside - margin.clamp(max=self.confidence)).sum()
                (z.grad,) = torch.autograd.grad(loss, z)
            check_gradient(z.grad.reshape(len(z), 1, 1, -1))
            reached, far = (t.detach().reshape(-1, 1, 1, 1) for t in (margin, outside))
            inside = far <= (NEAR * self.threat.eps) ** 2
            better = torch.where(inside, reached > highest, highest.isinf() & (far < nearest))
            best = torch.where(better, made.detach(), best)
            highest = torch.where(better & inside, reached, highest)
            nearest = torch.where(better, far, nearest)
            weight = self._weighed(weight, inside)
            adam.step()
        return self.threat.project(best.clamp(0, 1), x)

    def _outside(self, made: Images, x: Images) -> PerImage:
        """Squared distance of generated images to the budget."""
        nearest = self.threat.project(made.detach(), x)
        return (made - nearest).square().flatten(1).sum(1)

    def _weighed(self, weight: Column, inside: Tensor) -> Column:
        return torch.where(inside, weight / RATE, weight * RATE).clamp(1e-2, 1e4)


def _opened(model: Classifier, x: Images, rng: Rng) -> tuple[Classifier, Classifier, Tensor]:
    """The generator, what classifies its images, and the latents to set out from."""
    if isinstance(model, Defended) and isinstance(model.purifier, Generates):
        purifier = model.purifier
        with torch.no_grad():
            z, _ = purifier.search(x, rng)
        return purifier.G, model.classifier, z
    return lambda z: z, model, x.clone()
