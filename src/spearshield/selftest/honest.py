"""Honest models of many kinds: the audit must not accuse them."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot

from spearshield.method import Defended, RandomPurifier
from spearshield.rng import Rng
from spearshield.selftest.layers import Layer, blur, straight_through
from spearshield.selftest.networks import Networks
from spearshield.selftest.specimen import Specimen
from spearshield.types import Images, Logits


class Mean(nn.Module):
    """The mean of the logits of several networks."""

    def __init__(self, *networks: nn.Module) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Images) -> Logits:
        logits: Logits = torch.stack([network(x) for network in self.networks]).mean(0)
        return logits


class Distances(nn.Module):
    """Minus the squared distance to each centre, as logits."""

    def __init__(self, centres: Tensor) -> None:
        super().__init__()
        self.register_buffer("centres", centres)

    def forward(self, x: Images) -> Logits:
        differences = x.flatten(1)[:, None] - self.get_buffer("centres")
        return -differences.square().sum(2)


class RadialBasis(nn.Module):
    """A kernel-weighted vote of training images, with a Gaussian kernel."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        x, y = networks.train.images()[:300], networks.train.y[:300]
        self.distances = Distances(x.flatten(1))
        self.register_buffer("votes", one_hot(y, networks.train.classes).float())

    def forward(self, x: Images) -> Logits:
        logits: Logits = (0.5 * self.distances(x)).exp() @ self.get_buffer("votes")
        return logits


class SmoothedInput(RandomPurifier):
    """Adds Gaussian noise, and declares it."""

    def purify(self, x: Images, rng: Rng) -> Images:
        return (x + 0.1 * rng.normal(x.shape[1:]).to(x)).clamp(0, 1)


def ridge(networks: Networks) -> nn.Module:
    """Ridge regression of the labels on the pixels, in closed form."""
    x = networks.train.images().flatten(1).double()
    x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    targets = one_hot(networks.train.y, networks.train.classes).double()
    weights = torch.linalg.solve(x.T @ x + torch.eye(x.shape[1]), x.T @ targets).float()
    linear = nn.Linear(64, networks.train.classes)
    linear.load_state_dict({"weight": weights[:-1].T, "bias": weights[-1]})
    return nn.Sequential(nn.Flatten(), linear)


def class_means(networks: Networks) -> Tensor:
    """The mean training image of each class, as rows."""
    x, y = networks.train.images().flatten(1), networks.train.y
    return torch.stack([x[y == k].mean(0) for k in range(networks.train.classes)])


def through(*layers: nn.Module) -> Callable[[Networks], nn.Module]:
    """A function that builds the plain network behind these layers, in one module."""
    return lambda networks: nn.Sequential(*layers, networks.plain)


def scaled(factor: float) -> Callable[[Networks], nn.Module]:
    """A function that builds the plain network with its logits multiplied by ``factor``."""
    return lambda networks: nn.Sequential(networks.plain, Layer(lambda logits: factor * logits))


def double_precision(networks: Networks) -> nn.Module:
    """The plain network in float64."""
    layers = copy.deepcopy(networks.plain).double()
    return nn.Sequential(Layer(lambda x: x.double()), layers)


def honest(name: str, about: str, build: Callable[[Networks], nn.Module]) -> Specimen:
    """An honest model."""
    return Specimen("honest model", name, about, build)


HONEST = (
    honest("plain", "a convolutional network", lambda n: n.plain),
    honest("adversarially trained", "the same network", lambda n: n.hardened),
    honest("smooth denoiser", "a blur in front, in one module", through(Layer(blur))),
    honest("smooth purifier", "a blur as a purifier", lambda n: Defended(Layer(blur), n.plain)),
    honest("logits x 1000", "the cross-entropy saturates", scaled(1000.0)),
    honest("logits x 0.001", "the loss is nearly flat", scaled(0.001)),
    honest("temperature 10", "logits divided by ten", scaled(0.1)),
    honest(
        "bfloat16 input",
        "pixels have 8 bits of precision",
        through(Layer(lambda x: x.bfloat16().to(x))),
    ),
    honest(
        "8-bit input",
        "rounded to 256 levels, with the gradient of the identity",
        through(Layer(lambda x: straight_through(x, 256))),
    ),
    honest(
        "in place",
        "doubles its input in place, then halves it",
        through(Layer(lambda x: x.mul_(2)), Layer(lambda x: x / 2)),
    ),
    honest("ridge regression", "linear, in closed form", ridge),
    honest(
        "nearest class mean", "squared distances as logits", lambda n: Distances(class_means(n))
    ),
    honest("radial basis functions", "a kernel-weighted vote", RadialBasis),
    honest("tanh", "a perceptron", lambda n: n.tanh),
    honest("GELU and dropout", "a perceptron in evaluation mode", lambda n: n.gelu),
    honest("residual network", "batch normalisation in evaluation mode", lambda n: n.residual),
    honest(
        "mean of networks", "the mean of the logits", lambda n: Mean(n.plain, n.hardened, n.tanh)
    ),
    honest(
        "log-softmax",
        "logarithms of probabilities",
        lambda n: nn.Sequential(n.plain, nn.LogSoftmax(1)),
    ),
    honest("float64", "the plain network in double precision", double_precision),
    honest("average pooling", "a perceptron on 4 x 4 pixels", lambda n: n.pooled),
    honest(
        "normalised logits",
        "logits of norm ten",
        lambda n: nn.Sequential(n.plain, Layer(lambda z: 10 * normalize(z))),
    ),
    honest(
        "declared noise",
        "Gaussian noise in a random purifier",
        lambda n: Defended(SmoothedInput(), n.hardened),
    ),
)
