"""Interval bounds for training: sound, equal to the judge's, differentiable, refused by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from mutations import fails_under
from spearshield.architecture import Normalize
from spearshield.judging import certificate
from spearshield.judging.bounds import Input
from spearshield.judging.traced import trace
from spearshield.nets import bounded
from spearshield.nets.bounded import (
    Bounded,
    bounded_logits,
    box,
    check_boundable,
    worst_case,
)
from spearshield.nets.threshold import Threshold
from spearshield.nets.wrapped_classifier import WrappedClassifier
from spearshield.rng import ambient
from spearshield.threat import Linf

SHAPE = (2, 8, 9)
EPS = 0.03


class Residual(nn.Module):
    """Sums, differences, products with constants, slices and operations in place."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 1)
        self.norm = nn.BatchNorm2d(6)

    def forward(self, x):
        h = F.relu(self.norm(self.one(x)), inplace=True)
        h = self.norm(self.two(1 - h)) - 0.5 * x
        h += x / torch.tensor([1.0, -2, 3, -4, 5, 6]).view(-1, 1, 1)
        h = torch.cat([-h[:, :2], h[:, 2:].clamp(-1, 1)], 1)
        return F.max_pool2d(F.leaky_relu(h, 0.1), 2) - F.avg_pool2d(torch.sigmoid(x), 2)


@pytest.fixture
def network() -> nn.Module:
    with ambient(0):
        network = nn.Sequential(
            Normalize((0.3, 0.5), (0.2, 0.4)),
            Threshold((0.2, 0.7, 0.8), 0.4, 0.1),
            Residual(),
            nn.Hardtanh(),
            nn.AdaptiveAvgPool2d(3),
            nn.Tanh(),
            nn.Dropout(0.3),
            nn.Flatten(),
            nn.Linear(54, 4),
        )
        for _ in range(3):  # statistics of batch normalisation
            network(images(16))
    return network.eval()


def images(count: int) -> torch.Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(count))


def without_radius(self):
    return torch.zeros_like(self.lower)


@fails_under("bounds without a radius", (Bounded, "radius", property(without_radius)))
def test_the_bounds_hold_for_perturbed_images_and_equal_the_judges(network):
    x = images(4)
    low, high = box(x, EPS)
    logits = bounded_logits(network, x, low, high)
    torch.testing.assert_close(logits.value, network(x))
    y, generator = torch.tensor([0, 1, 2, 3]), torch.Generator().manual_seed(0)
    worst = worst_case(logits, y)
    for _ in range(20):
        z = network(low + (high - low) * torch.rand(x.shape, generator=generator).round())
        assert (z >= logits.lower - 1e-5).all() and (z <= logits.upper + 1e-5).all()
        assert (z - z.gather(1, y[:, None]) <= worst + 1e-5).all()

    judged = trace(network, Input(x, Linf(EPS)))
    for node in certificate._in_order(judged):
        node.bound()
    torch.testing.assert_close(logits.lower.double(), judged.lower, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(logits.upper.double(), judged.upper, rtol=1e-3, atol=1e-4)


def test_the_statistics_and_the_dropout_of_the_bounds_are_those_of_the_images(network):
    """With a box without extent the bounds are the values, in training mode too."""
    x = images(4)
    logits = bounded_logits(network.train(), x, x, x)
    torch.testing.assert_close(logits.lower, logits.value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits.upper, logits.value, rtol=1e-4, atol=1e-5)


def test_a_pass_updates_the_running_statistics_once():
    with ambient(0):
        network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(144), nn.Linear(144, 3))
    x = images(8)
    bounded_logits(network.train(), x, *box(x, EPS))
    assert network[1].num_batches_tracked == 1
    torch.testing.assert_close(network[1].running_mean, 0.1 * x.flatten(1).mean(0))


def two_bounds(logits, y):
    return (logits.upper - logits.lower.gather(1, y[:, None])).scatter(1, y[:, None], 0.0)


@fails_under("last layer not merged", (bounded, "worst_case", two_bounds))
def test_the_last_layer_is_merged_with_the_difference_of_logits():
    """One pixel in [0.4, 0.6] with logits (3x, 2x + 0.1): z_1 - z_0 = 0.1 - x is at most -0.3."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[3.0], [2.0]]))
        network[1].bias.copy_(torch.tensor([0.0, 0.1]))
    x = torch.full((1, 1, 1, 1), 0.5)
    logits = bounded_logits(network, x, *box(x, 0.1))
    torch.testing.assert_close(logits.lower, torch.tensor([[1.2, 0.9]]))
    torch.testing.assert_close(logits.upper, torch.tensor([[1.8, 1.3]]))
    worst = bounded.worst_case(logits, torch.tensor([0]))
    torch.testing.assert_close(worst, torch.tensor([[0.0, -0.3]]))

    logits.product = None  # another operation was last
    worst = worst_case(logits, torch.tensor([0]))
    torch.testing.assert_close(worst, torch.tensor([[0.0, 0.1]]))


def test_the_gradient_reaches_every_weight(network):
    x = images(4)
    logits = bounded_logits(network.train(), x, *box(x, EPS))
    worst_case(logits, torch.tensor([0, 1, 2, 3])).square().sum().backward()
    for name, weight in network.named_parameters():
        # A bias of a layer that batch normalisation follows has no effect.
        assert weight.grad is not None, name


def test_images_are_not_changed_by_a_network_that_works_in_place():
    class InPlace(nn.Module):
        def forward(self, x):
            return x.flatten(1).add_(1).relu_()[:, :3]

    x = images(2)
    before, ends = x.clone(), box(x, EPS)
    logits = bounded_logits(InPlace(), x, *ends)
    torch.testing.assert_close(logits.upper, 1 + ends[1].flatten(1)[:, :3])
    assert torch.equal(x, before) and torch.equal(ends[1], box(before, EPS)[1])


def test_a_wrapped_classifier_keeps_its_last_layer():
    with ambient(0):
        network = WrappedClassifier(nn.Sequential(nn.Flatten(), nn.Linear(144, 3)))
    x = images(2)
    assert bounded_logits(network, x, *box(x, EPS)).product is not None


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.GELU(), r"layer 1\.0 \(GELU\): there are no bounds of gelu"),
        (nn.Softmax(1), r"layer 1\.0 \(Softmax\): there are no bounds of softmax"),
        (nn.LeakyReLU(-0.1), r"layer 1\.0 \(LeakyReLU\): leaky_relu may decrease"),
        (nn.LayerNorm(144), r"layer 1\.0 \(LayerNorm\): there are no bounds of layer_norm"),
        (nn.Bilinear(144, 144, 3), r"layer 1\.0 \(Bilinear\)"),
        (nn.Unflatten(1, (12, 12)), "the logits do not depend"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_layer_without_bounds_is_named(layer, reason):
    network = nn.Sequential(nn.Flatten(), nn.Sequential(layer))
    with pytest.raises(ValueError, match=reason):
        check_boundable(network, SHAPE)


def test_two_values_of_the_network_are_not_multiplied():
    class Square(nn.Module):
        def forward(self, x):
            return (x * x).flatten(1)

    with pytest.raises(ValueError, match="both arguments of mul depend on the images"):
        check_boundable(Square(), SHAPE)


@pytest.mark.parametrize(
    ("compute", "reason"),
    [
        (lambda x: torch.add(x, x.flip(1), alpha=-1), "no bounds of add with alpha"),
        (lambda x: (1 * x).add_(x.flip(1), alpha=2), "no bounds of add_ with alpha"),
        (lambda x: torch.rsub(x, 1.0, alpha=-1), "rsub has settings"),
        (lambda x: torch.rsub(x, x.flip(1)), "second argument of rsub depends on the images"),
        (lambda x: (1 * x).neg_(), "no bounds of neg_ in place"),
    ],
    ids=["add", "add_", "rsub", "rsub of two values", "neg_"],
)
def test_sums_and_differences_without_bounds_are_refused(compute, reason):
    class Network(nn.Module):
        def forward(self, x):
            return compute(x.flatten(1))

    with pytest.raises(ValueError, match=reason):
        check_boundable(Network(), SHAPE)
