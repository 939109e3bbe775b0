"""SPSA: gradient ascent with a gradient estimated from queries in random directions.

Uesato, O'Donoghue, van den Oord, Kohli, "Adversarial Risk and the Dangers of Evaluating Against
Weak Attacks", 2018. https://arxiv.org/abs/1802.05666
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from spearshield.adversary import Attack, until_misclassified
from spearshield.gradients import finite
from spearshield.losses.margin import margin_loss
from spearshield.ranges import require
from spearshield.rng import Rng
from spearshield.types import Classifier, Images, Labels

MAX_VALUES = 2**21
"""Approximate number of pixel values in one forward pass; limits memory, changes no result."""


@dataclass(frozen=True)
class SPSA(Attack):
    """Steps of Adam that increase the margin loss, with gradients estimated from logits alone.

    The estimate is the mean of ``(L(x + delta * v) - L(x - delta * v)) / (2 * delta) * v`` over
    directions ``v`` of random signs. The model is never differentiated. Queries are clamped to
    [0, 1]. An image stops once it is misclassified.

    Args:
        steps: Maximum number of steps of Adam.
        samples: Number of queries for each image and step, an even number: they come in pairs of
            opposite directions. One more query tests whether the image is misclassified.
        lr: Learning rate of Adam, on the [0, 1] pixel scale.
        delta: Distance of each query from the image, in every pixel, on the [0, 1] pixel scale.

    Raises:
        ValueError: ``steps``, ``lr`` or ``delta`` is not positive, or ``samples`` is not a positive
            even number.
    """

    gradient_free: ClassVar[bool] = True

    steps: int = 100
    samples: int = 128
    lr: float = 0.01
    delta: float = 0.01

    def __post_init__(self) -> None:
        require(self, "steps", at_least=1)
        require(self, "samples", at_least=2)
        require(self, "lr", "delta", above=0)
        if self.samples % 2:
            raise ValueError(f"samples must be even, got {self.samples}")

    @torch.no_grad()
    def perturb(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        x_adv, offset = x.clone(), torch.zeros_like(x)
        adam = torch.optim.Adam([offset], self.lr, maximize=True)
        for step, left in until_misclassified(range(self.steps), model, x_adv, y):
            gradient = finite(self._estimate(model, x_adv[left], y[left], rng[left].fold(step)))
            # Momentum also moves the offsets of stopped images, which are not used again.
            offset.grad = torch.zeros_like(x)
            offset.grad[left] = gradient
            adam.step()
            x_adv[left] = self.threat.project(x[left] + offset[left], x[left])
            offset[left] = x_adv[left] - x[left]
        return x_adv

    def _estimate(self, model: Classifier, x: Images, y: Labels, rng: Rng) -> Images:
        """The estimated gradient of the margin loss of each image, in several forward passes.

        The number of pairs in a pass depends only on the size of an image, so that the draws of an
        image do not depend on its batch.
        """
        pairs = self.samples // 2
        block = min(pairs, max(1, MAX_VALUES // (2 * x[0].numel())))
        together = max(1, MAX_VALUES // (2 * block * x[0].numel()))
        total = torch.zeros_like(x)
        for part in torch.split(torch.arange(len(x), device=x.device), together):
            for start in range(0, pairs, block):
                count = min(block, pairs - start)
                own = rng[part].fold(start)
                total[part] += self._differences(model, x[part], y[part], own, count)
        return total / (2 * self.delta * pairs)

    def _differences(self, model: Classifier, x: Images, y: Labels, rng: Rng, count: int) -> Images:
        """Sum over ``count`` directions ``v`` of ``(L(x + delta * v) - L(x - delta * v)) * v``."""
        signs = 2 * rng.integers((count, *x.shape[1:]), 2) - 1
        v = signs.to(x.dtype)
        queries = torch.stack([x[:, None] + self.delta * v, x[:, None] - self.delta * v], 1)
        logits = model(queries.flatten(0, 2).clamp(0, 1))
        loss = margin_loss(logits, y.repeat_interleave(2 * count))
        up, down = loss.reshape(-1, 2, count).unbind(1)
        return ((up - down)[:, :, None, None, None] * v).sum(1)
