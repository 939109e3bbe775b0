"""Generator and critic of Defense-GAN: sizes, and the layers and initial weights of the release."""

from __future__ import annotations

import pytest
import torch

from spearshield.nets.wgan import Critic, Generator


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 28, 28), (3, 32, 32), (3, 64, 64), (2, 5, 70)])
def test_networks_of_any_size(shape):
    x = Generator(shape, 2, 3)(torch.randn(2, 3))
    assert x.shape == (2, *shape) and x.min() >= 0 and x.max() <= 1
    assert Critic(shape, 2)(x).shape == (2, 1)


def test_the_networks_of_the_release():
    generator, critic = Generator((1, 28, 28), 64, 128), Critic((1, 28, 28), 64)
    sizes = [128 * 4096 + 4096, 256 * 128 * 25 + 128, 128 * 64 * 25 + 64, 64 * 25 + 1]
    assert sum(p.numel() for p in generator.parameters()) == sum(sizes)
    sizes = [64 * 25 + 64, 64 * 128 * 25 + 128, 128 * 256 * 25 + 256, 4096 + 1]
    assert sum(p.numel() for p in critic.parameters()) == sum(sizes)
    maps = []
    for layer in generator.deconvs:
        layer.register_forward_hook(lambda layer, _, output: maps.append(output.shape[2]))
    generator(torch.zeros(1, 128))
    assert maps == [7, 14, 28]


def test_the_initial_weights_of_the_release():
    generator, critic = Generator((1, 28, 28), 64, 128), Critic((1, 28, 28), 64)
    for weight, variance in (
        (generator.linear.weight, 2 / (128 + 4096)),
        (generator.deconvs[0].weight, 4 / (256 * 25 / 4 + 128 * 25)),
        (critic.body[4].weight, 4 / (128 * 25 + 256 * 25 / 4)),
    ):
        assert float(weight.detach().var()) == pytest.approx(variance, rel=0.02)
        assert float(weight.detach().max()) == pytest.approx((3 * variance) ** 0.5, rel=0.01)
