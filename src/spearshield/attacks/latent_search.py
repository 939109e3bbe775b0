"""Latent search: a search for misclassified images in the range of the purifier's generator.

A purifier that returns the nearest generated image returns such an image unchanged, even if its own
search is perfect.

Athalye, Carlini, Wagner, "Obfuscated Gradients Give a False Sense of Security: Circumventing
Defenses to Adversarial Examples", 2018. https://arxiv.org/abs/1802.00420
Jalal, Ilyas, Daskalakis, Dimakis, "The Robust Manifold Defense: Adversarial Training using
Generative Models", 2017. https://arxiv.org/abs/1712.09196 (there, the overpowered attack)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from spearshield.adversary import Attack, until_misclassified
from spearshield.gradients import gradients, recording
from spearshield.inputs import guarded
from spearshield.losses.margin import margin_loss
from spearshield.method import Defended, Generates
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels, PerImage

PENALTY_RATE = 1.05
"""Factor of the penalty weight: it grows in a step outside the threat model and shrinks inside."""
TOLERANCE = 0.05
"""L2 distance to the threat model at which a generated image counts as inside, relative to eps."""


@dataclass(frozen=True)
class LatentSearch(Attack):
    """Adam on the latent: margin loss minus a penalty on the distance to the threat model.

    The search starts from the latents that the purifier finds for the clean image. The weight of
    the penalty, the squared L2 distance, grows while the generated image is outside the threat
    model and shrinks while it is inside, so the search follows the boundary. The result is the
    generated image inside the threat model with the largest margin loss or, without one, the
    generated image nearest to the threat model; either is projected into the threat model. An
    image stops once the whole model misclassifies it.

    Args:
        steps: Number of steps of Adam in each run.
        lr: Learning rate of Adam, in units of the latent.
        restarts: Maximum number of runs for each image. An image that one run has broken is not
            attacked again.
        confidence: Margin, in logits, beyond which the loss does not increase further.

    Raises:
        ValueError: ``steps``, ``lr`` or ``restarts`` is not positive, or ``confidence`` negative.
            When called: the model has no purifier that implements
            :class:`~spearshield.method.Generates`.
    """

    steps: int = 500
    lr: float = 0.05
    restarts: int = 4
    confidence: float = 5.0

    def __post_init__(self) -> None:
        require(self, "steps", "restarts", at_least=1)
        require(self, "lr", above=0)
        require(self, "confidence", at_least=0)

    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        parts, x_adv = _generative(model), x.clone()
        with guarded(parts.classifier, y, x.dtype) as classifier:
            victim = parts._replace(classifier=classifier)
            for restart, left in until_misclassified(range(self.restarts), model, x_adv, y):
                x_adv[left] = self._search(victim, x[left], y[left], rng[left].fold(restart))
        return x_adv

    def _search(self, victim: Generative, x: Images, y: Labels, rng: Rng) -> Images:
        with torch.no_grad():
            z, _ = victim.purifier.search(x.clone(), rng)
        z = z.detach().requires_grad_()
        adam = torch.optim.Adam([z], self.lr)
        weight, best = torch.ones_like(x[:, :1, :1, :1]), x.clone()
        margin_best = torch.full_like(weight, -math.inf)
        excess_best = torch.full_like(weight, math.inf)
        for _ in range(self.steps):
            with recording():
                generated = victim.purifier.generate(z)
                seen = generated.view_as(
                    generated
                )  # the distance has a gradient even if the logits have none
                margin = margin_loss(victim.classifier(seen), y)
                excess = self._squared_excess(generated, x)
                loss = weight.flatten() * excess - margin.clamp(max=self.confidence)
            z.grad, _ = gradients(loss, z, seen)
            margin, excess = (t.detach().reshape(-1, 1, 1, 1) for t in (margin, excess))
            inside = excess <= (TOLERANCE * self.threat.eps) ** 2
            nearer = margin_best.isinf() & (excess < excess_best)
            better = torch.where(inside, margin > margin_best, nearer)
            best = torch.where(better, generated.detach(), best)
            margin_best = torch.where(better & inside, margin, margin_best)
            excess_best = torch.where(better, excess, excess_best)
            weight = torch.where(inside, weight / PENALTY_RATE, weight * PENALTY_RATE)
            weight = weight.clamp(1e-2, 1e4)
            adam.step()
        return self.threat.project(best.clamp(0, 1), x)

    def _squared_excess(self, generated: Images, x: Images) -> PerImage:
        """Squared L2 distance of each generated image to the threat model."""
        nearest = self.threat.project(generated.detach(), x)
        return (generated - nearest).square().flatten(1).sum(1)


class Generative(NamedTuple):
    """The two parts of a victim that the search differentiates."""

    purifier: Generates
    classifier: Classifier


def _generative(model: Classifier) -> Generative:
    """The parts of a model whose purifier has a generator."""
    if not (isinstance(model, Defended) and isinstance(model.purifier, Generates)):
        raise ValueError(
            "latent search needs a Defended model whose purifier has a generator (generate and "
            "search); attack other models with APGD or FMN"
        )
    return Generative(model.purifier, model.classifier)
