"""A small network that is trained on the spot to imitate a function.

Its gradient takes the place of the gradient that the function does not have. The training is
distillation: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015,
https://arxiv.org/abs/1503.02531.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, mse_loss

from spearshield.rng import Rng, ambient, permutation

STEPS, BATCH, LR = 400, 64, 2e-3
WIDTH = 32
LARGEST = 32
"""Longest side of the images inside the network; larger ones are averaged first."""


class Imitation(nn.Module):
    """A network from inputs of one shape to outputs of another, each without the batch dimension.

    Images become images by convolutions, and other outputs by convolutions and two linear layers;
    inputs that are not images go through linear layers alone.

    Args:
        inputs, outputs: Shapes.
        mean, spread: Mean and standard deviation of each output.
    """

    mean: Tensor
    spread: Tensor

    def __init__(
        self, inputs: torch.Size, outputs: torch.Size, mean: Tensor, spread: Tensor
    ) -> None:
        super().__init__()
        self.outputs = outputs
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)
        if len(inputs) != 3:
            self.network = _perceptron(inputs.numel(), outputs.numel())
        elif len(outputs) == 3:
            self.network = _convolutions(inputs[0], outputs[0])
        else:
            self.network = small_classifier(inputs, outputs.numel())

    def forward(self, u: Tensor) -> Tensor:
        v: Tensor = self.network(u)
        if len(self.outputs) == 3 and v.dim() == 4 and v.shape[2:] != self.outputs[1:]:
            v = interpolate(v, size=tuple(self.outputs[1:]), mode="bilinear", align_corners=False)
        return v.reshape(-1, *self.outputs) * self.spread + self.mean


def imitation(u: Tensor, v: Tensor, rng: Rng) -> Callable[[Tensor], Tensor]:
    """A network that maps the inputs ``u`` nearly to the outputs ``v``, as a function.

    Args:
        rng: Its key is the seed of weights and order.
    """
    mean, spread = v.mean(0), v.std(0)
    spread = torch.where(spread > 1e-6, spread, spread.mean().clamp(min=1e-6))
    with ambient(rng.key):
        network = Imitation(u.shape[1:], v.shape[1:], mean, spread).to(u)
    optimiser = torch.optim.Adam(network.parameters(), LR)
    orders: list[Tensor] = []
    with torch.enable_grad():
        for step in range(STEPS):
            if not orders:
                orders = list(torch.split(permutation(len(u), rng.key, step).to(u.device), BATCH))
            index = orders.pop()
            loss = mse_loss((network(u[index]) - mean) / spread, (v[index] - mean) / spread)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return network.eval().requires_grad_(False)


def small_classifier(shape: torch.Size, outputs: int) -> nn.Sequential:
    """Two convolutions and two linear layers; large images are averaged over squares first."""
    channels, h, w = shape
    factor = max(1, -(-max(h, w) // LARGEST))
    h, w = -(-h // factor), -(-w // factor)
    return nn.Sequential(
        nn.AvgPool2d(factor, ceil_mode=True),
        nn.Conv2d(channels, WIDTH, 3, padding=1), nn.ReLU(),
        nn.Conv2d(WIDTH, WIDTH, 3, 2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(WIDTH * -(-h // 2) * -(-w // 2), 128), nn.ReLU(),
        nn.Linear(128, outputs),
    )  # fmt: skip


def _perceptron(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(),
        nn.Linear(200, outputs),
    )  # fmt: skip


def _convolutions(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, WIDTH, 3, padding=1), nn.ReLU(),
        nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.ReLU(),
        nn.Conv2d(WIDTH, outputs, 3, padding=1),
    )  # fmt: skip
