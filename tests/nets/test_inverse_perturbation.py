"""Networks of inverse perturbations: sizes, the untrained state, and checkpoints of memory."""

from __future__ import annotations

import pytest
import torch

from mutations import fails_under
from spearshield.nets import inverse_perturbation
from spearshield.nets.inverse_perturbation import (
    Fusion,
    InversePerturbation,
    Translation,
    UniversalGenerator,
)
from spearshield.rng import ambient


def generator(width=4, blocks=2):
    with ambient(0):
        made = InversePerturbation(3, width, blocks)
        torch.nn.init.normal_(made.parts[-1][0].weight, std=0.1)
    return made


@pytest.mark.parametrize("size", [(4, 4), (7, 5), (28, 28), (30, 33)])
def test_purifiers_keep_the_size_and_the_range(size):
    x = torch.rand(2, 3, *size)
    x_hat = Fusion(generator())(x)
    assert x_hat.shape == x.shape and x_hat.min() >= 0 and x_hat.max() <= 1
    u = UniversalGenerator((3, *size), 5, 4)()
    assert u.shape == (1, 3, *size) and u.abs().max() <= 1


def test_an_untrained_purifier_changes_nothing():
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(Fusion(InversePerturbation(1, 4, 1))(x), x)


def test_an_image_is_purified_alike_in_every_batch_and_mode():
    purifier, x = Fusion(generator()), torch.rand(6, 3, 8, 8)
    torch.testing.assert_close(purifier.train()(x)[2:4], purifier.eval()(x[2:4]))


@pytest.mark.parametrize("width", [1, 3, 8, 12])
def test_every_width_can_be_normalised(width):
    assert InversePerturbation(1, width, 1)(torch.rand(1, 1, 8, 8)).shape == (1, 1, 8, 8)


def gradients(x):
    made = generator()
    made(x).square().sum().backward()
    return [weight.grad for weight in made.parameters()]


def test_large_images_have_the_same_gradients(monkeypatch):
    x = torch.rand(2, 3, 16, 16)
    plain = gradients(x)
    monkeypatch.setattr(inverse_perturbation, "LARGE", 16)
    for ours, expected in zip(gradients(x), plain, strict=True):
        torch.testing.assert_close(ours, expected)


def kept_for_backward(blocks, side=96):
    """Numbers that the graph of one image keeps, in units of the image."""
    made = generator(blocks=blocks)
    kept = {}

    def pack(tensor):
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        made(torch.rand(1, 3, side, side))
    return sum(kept.values()) / side**2


@fails_under("no checkpoints", (inverse_perturbation, "LARGE", 1000))
def test_a_block_on_large_images_keeps_only_its_input():
    # 16 channels at a quarter of each side: one number per pixel of the image.
    assert kept_for_backward(6) - kept_for_backward(2) < 4 * 1.5


def test_a_translation_adds_and_clips():
    u = torch.full((1, 1, 2, 2), 0.4)
    x = torch.tensor([0.1, 0.9])[:, None, None, None].expand(2, 1, 2, 2)
    x_hat = Translation(u)(x)
    torch.testing.assert_close(x_hat[:, 0, 0, 0], torch.tensor([0.5, 1.0]))
