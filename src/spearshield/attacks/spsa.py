"""SPSA: gradient ascent without a gradient, estimated from queries in random directions.

Uesato, O'Donoghue, van den Oord, Kohli, "Adversarial Risk and the Dangers of Evaluating Against
Weak Attacks", 2018. https://arxiv.org/abs/1802.05666
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from spearshield.attack import Attack, check_gradient, fooled
from spearshield.losses.margin import margin_loss
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels

_PIXELS = 2**21
"""Values in the queries of one forward pass, roughly; bounds memory, and changes no result."""


@dataclass(frozen=True)
class SPSA(Attack):
    """Steps of Adam up the margin loss, each along a slope estimated from the model's logits alone.

    The slope is the mean of ``(L(x + delta * v) - L(x - delta * v)) / (2 * delta) * v`` over
    directions ``v`` of random signs. The model is never differentiated. Queries are images: a pixel
    that would leave [0, 1] is clamped. An image leaves as soon as the model errs on it.

    Args:
        steps: Steps of Adam, at most.
        samples: Queries per image and step, in pairs of opposite directions; one more looks
            whether the model errs by now.
        lr: Step size of Adam, on the [0, 1] scale.
        delta: Distance of each query from the image, in every pixel.

    Raises:
        ValueError: ``steps``, ``lr`` or ``delta`` is not positive, or ``samples`` is not an even
            number from 2.
    """

    gradient_free: ClassVar[bool] = True

    steps: int = 100
    samples: int = 128
    lr: float = 0.01
    delta: float = 0.01

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.samples < 2 or self.samples % 2:
            raise ValueError(f"samples must be even, for they come in pairs; got {self.samples}")
        if not (self.lr > 0 and self.delta > 0):
            raise ValueError(f"lr and delta must be positive, got {self.lr} and {self.delta}")

    @torch.no_grad()
    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        x_adv, offset = x.clone(), torch.zeros_like(x)
        adam = torch.optim.Adam([offset], self.lr, maximize=True)
        left = torch.arange(len(x), device=x.device)
        for step in range(self.steps):
            left = left[~fooled(model, x_adv[left], y[left])]
            if len(left) == 0:
                break
            slope = self._slope(model, x_adv[left], y[left], rng[left].fold(step))
            check_gradient(slope)
            # Momentum also moves the offsets of images that have left; theirs are not used again.
            offset.grad = torch.zeros_like(x)
            offset.grad[left] = slope
            adam.step()
            x_adv[left] = self.threat.project(x[left] + offset[left], x[left])
            offset[left] = x_adv[left] - x[left]
        return x_adv

    def _slope(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        """The estimated gradient of each image's margin loss, some pairs and images at a time.

        How many pairs depends on the image's size alone, so that its draws do not depend on the
        others of the batch.
        """
        pairs = self.samples // 2
        block = min(pairs, max(1, _PIXELS // (2 * x[0].numel())))
        together = max(1, _PIXELS // (2 * block * x[0].numel()))
        slope = torch.zeros_like(x)
        for part in torch.split(torch.arange(len(x), device=x.device), together):
            for start in range(0, pairs, block):
                count = min(block, pairs - start)
                slope[part] += self._differences(model, x[part], y[part], rng[part], start, count)
        return slope / (2 * self.delta * pairs)

    def _differences(
        self, model: Classifier, x: Images, y: Labels, rng: Rng, start: int, count: int
    ) -> Images:
        """Sum over ``count`` directions of the loss's difference along each, times it."""
        signs = 2 * rng.fold(start).integers((count, *x.shape[1:]), 2) - 1
        v = signs.to(x.dtype)
        queries = torch.stack([x[:, None] + self.delta * v, x[:, None] - self.delta * v], 1)
        logits = model(queries.flatten(0, 2).clamp(0, 1))
        loss = margin_loss(logits, y.repeat_interleave(2 * count))
        up, down = loss.reshape(-1, 2, count).unbind(1)
        return ((up - down)[:, :, None, None, None] * v).sum(1)
